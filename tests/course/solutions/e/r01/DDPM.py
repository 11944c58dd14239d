import torch
import torch.nn.functional as F
from torch import nn

from config import MEAN, STD, is_finite
from lab.capture import captured
from lab.halves import shared, twice
from lab.precision import autocast
from lab.samplers import evaluating
from ResUNet import ConditionalUnet

class ConditionalDDPM(nn.Module):

    def __init__(self, dmconfig):
        super().__init__()
        self.dmconfig = dmconfig
        self.loss_fn = nn.MSELoss()

        size = {} if tuple(dmconfig.input_dim) == (28, 28) else {"input_dim": dmconfig.input_dim}
        self.network = ConditionalUnet(dmconfig.num_channels, dmconfig.num_feat, dmconfig.num_classes, **size)

    def scheduler(self, t_s):
        beta_1, beta_T, T = self.dmconfig.beta_1, self.dmconfig.beta_T, self.dmconfig.T
        t_s = self._time_steps(t_s)
        cosine = self._cosine_betas()
        b=torch.linspace(beta_1,beta_T,T,device=t_s.device)[t_s-1];a=1-b
        A=(1-torch.linspace(beta_1,beta_T,T,device=t_s.device)).cumprod(0)[t_s-1]
        variance_dict=dict(beta_t=b,sqrt_beta_t=b**.5,alpha_t=a,oneover_sqrt_alpha=a**-.5,alpha_t_bar=A,sqrt_alpha_bar=A**.5,sqrt_oneminus_alpha_bar=(1-A)**.5)
        return {name: value.to(t_s.device, torch.float32).view(-1, 1, 1, 1) for name, value in variance_dict.items()}

    def forward(self, images, conditions, generator=None):
        T, mask_p, mask_value = self.dmconfig.T, self.dmconfig.mask_p, self.dmconfig.condition_mask_value
        self._check_images(images)
        c = self._one_hot(conditions, len(images), images.device)
        draw = {"generator": generator, "device": generator.device if generator else images.device}
        B,D=len(c),images.device
        c=torch.where(torch.rand(B,1,**draw).to(D)<mask_p,mask_value,c)
        t=torch.randint(T,(B,),**draw).to(D)+1
        e=torch.randn(images.shape,**draw).to(D)
        s=self.scheduler(t)
        noise_loss=self.loss_fn(self.network(s["sqrt_alpha_bar"]*images+s["sqrt_oneminus_alpha_bar"]*e,t.view(-1,1,1,1)/T,c),e)
        return noise_loss

    @torch.no_grad()
    def sample(self, conditions, omega, generator=None):
        T, mask_value = self.dmconfig.T, self.dmconfig.condition_mask_value
        if not is_finite(omega):
            raise ValueError(f"omega = {omega!r}; allowed is a finite number, as 2.0")
        omega = float(omega)
        device = next(self.network.parameters()).device
        c = self._one_hot(conditions, None, device)
        shape = (len(c), self.dmconfig.num_channels, *self.dmconfig.input_dim)
        draw = {"generator": generator, "device": generator.device if generator else device}
        with evaluating(self.network), shared(self.network), autocast(device, getattr(self.dmconfig, "precision", "auto")):
            x=torch.randn(shape,**draw).to(device);C=torch.cat((c,0*c+mask_value))
            for t in range(T,0,-1):
                s=self.scheduler(torch.tensor(t,device=device));p,u=self.network(twice(x),torch.full((len(C),1,1,1),t/T,device=device),C).chunk(2)
                x=s["oneover_sqrt_alpha"]*(x-s["beta_t"]/s["sqrt_oneminus_alpha_bar"]*(p+omega*(p-u)))+(t>1)*s["sqrt_beta_t"]*torch.randn(shape,**draw).to(device)
        return (x * STD + MEAN).clamp(0, 1)

    def _cosine_betas(self):
        if getattr(self.dmconfig, "schedule", "linear") == "cosine":
            from lab import schedules

            return schedules.cosine(self.dmconfig.T)

    def _time_steps(self, t_s):
        t_s = torch.as_tensor(t_s)
        if not _is_whole(t_s):
            raise ValueError(f"time steps are {t_s.dtype}; allowed are whole numbers, as torch.long")
        if t_s.ndim > 2 or (t_s.ndim == 2 and t_s.shape[1] != 1) or t_s.numel() == 0:
            raise ValueError(f"time steps have shape {tuple(t_s.shape)}; allowed is a 0-dim tensor, (B,) or (B, 1)")
        if t_s.min() < 1 or t_s.max() > self.dmconfig.T:
            raise ValueError(f"time steps {int(t_s.min())} to {int(t_s.max())}; allowed is 1 to T = {self.dmconfig.T}")
        return t_s.reshape(-1).long()

    def _check_images(self, images):
        wanted = (self.dmconfig.num_channels, *self.dmconfig.input_dim)
        if not torch.is_tensor(images) or not images.is_floating_point():
            raise ValueError(f"images are {getattr(images, 'dtype', type(images))}; allowed is a tensor of floats")
        if images.ndim != 4 or images.shape[1:] != wanted or len(images) == 0:
            raise ValueError(f"images have shape {tuple(images.shape)}; allowed is (B, {', '.join(map(str, wanted))})")

    def _one_hot(self, conditions, batch, device):
        K = self.dmconfig.num_classes
        if not torch.is_tensor(conditions):
            raise ValueError(f"conditions are {type(conditions).__name__}; allowed is a tensor of labels (B,) or rows (B, {K})")
        if conditions.ndim == 1 and _is_whole(conditions):
            if conditions.numel() and (conditions.min() < 0 or conditions.max() >= K):
                raise ValueError(f"labels {int(conditions.min())} to {int(conditions.max())}; allowed is 0 to {K - 1}")
            rows = F.one_hot(conditions.long(), K)
        elif conditions.ndim == 2 and conditions.shape[1] == K:
            rows = conditions
            if not ((rows == 0) | (rows == 1)).all() or not (rows.sum(1) == 1).all():
                raise ValueError("one-hot rows hold one 1 each and 0 elsewhere; these do not")
        else:
            raise ValueError(
                f"conditions are {conditions.dtype} of shape {tuple(conditions.shape)}; "
                f"allowed are whole numbers (B,) from 0 to {K - 1}, or one-hot rows (B, {K})"
            )
        if len(rows) == 0 or batch not in (None, len(rows)):
            raise ValueError(f"{len(rows)} conditions; allowed is one for each of {batch or 'one or more'} images")
        return rows.to(device, torch.float32)

def _is_whole(tensor):
    return not (tensor.is_floating_point() or tensor.is_complex() or tensor.dtype == torch.bool)
