import torch
import math
import torch.nn as nn
from config import *
from ResUNet import *
from tqdm import tqdm
device = "cuda" if torch.cuda.is_available() else "cpu"
print("using", device)

class ConditionalDDPM(nn.Module):
    def __init__(self, dmconfig):
        super().__init__()
        self.dmconfig = dmconfig
        self.loss_fn = nn.MSELoss()
        self.network = ConditionalUnet(dmconfig.num_channels, dmconfig.num_feat, dmconfig.num_classes).to(device)

    def scheduler(self, t_s):
        b1 = self.dmconfig.beta_1; bT = self.dmconfig.beta_T; T = self.dmconfig.T
        ts = t_s.view(-1).tolist()
        d = {"beta_t": [], "sqrt_beta_t": [], "alpha_t": [], "oneover_sqrt_alpha": [], "alpha_t_bar": [], "sqrt_alpha_bar": [], "sqrt_oneminus_alpha_bar": []}
        for t in ts:
            # beta(t) linear, t=1 -> b1, t=T -> bT
            beta = lambda s: b1 + (bT-b1)*(s-1)/(T-1) if T > 1 else b1
            bt = beta(t)
            at = 1-bt
            ab = math.prod(1-beta(s) for s in range(1, t+1))
            d["beta_t"].append(bt)
            d["sqrt_beta_t"].append(math.sqrt(bt))
            d["alpha_t"].append(at)
            d["oneover_sqrt_alpha"].append(1/math.sqrt(at))
            d["alpha_t_bar"].append(ab)
            d["sqrt_alpha_bar"].append(math.sqrt(ab))
            d["sqrt_oneminus_alpha_bar"].append(math.sqrt(1-ab))
        for k in d:
            d[k] = torch.tensor(d[k]).view(-1,1,1,1).to(t_s.device)
        return d

    def forward(self, images, conditions, generator=None):
        images = images.to(device)
        c = conditions.to(device)
        if c.dim() == 1: c = torch.eye(self.dmconfig.num_classes, device=device)[c]
        c = c.float()
        bs = images.shape[0]
        gd = generator.device if generator else device
        # masking
        p = torch.rand(bs, 1, generator=generator, device=gd).to(device)
        m = (p < self.dmconfig.mask_p).float()
        c = (1-m)*c + m*self.dmconfig.condition_mask_value
        # diffusion
        t = torch.randint(1, self.dmconfig.T+1, (bs,1), generator=generator, device=gd).to(device)
        e = torch.normal(torch.zeros(images.shape, device=gd), 1., generator=generator).to(device)
        s = self.scheduler(t)
        xt = s["sqrt_alpha_bar"]*images + s["sqrt_oneminus_alpha_bar"]*e
        #print(xt.shape, t.shape, c.shape)
        out = self.network(xt, t/self.dmconfig.T, c)
        loss = self.loss_fn(out, e)
        return loss

    def sample(self, conditions, omega, generator=None):
        c = conditions.to(device)
        if c.dim() == 1: c = torch.eye(self.dmconfig.num_classes, device=device)[c]
        c = c.float()
        mode = self.training
        self.eval()
        T = self.dmconfig.T
        gd = generator.device if generator else device
        pics = []
        with torch.no_grad():
            # 8 at a time, my gpu is small
            for cc in torch.split(c, 8):
                bs = cc.shape[0]
                nn_ = torch.full_like(cc, self.dmconfig.condition_mask_value)
                x = torch.randn(bs, self.dmconfig.num_channels, self.dmconfig.input_dim[0], self.dmconfig.input_dim[1], generator=generator, device=gd).to(device)
                for t in tqdm(list(range(1, T+1))[::-1], disable=bs < 8):
                    tt = torch.tensor([[t]]*bs, device=device)
                    s = self.scheduler(tt[:1])
                    e1 = self.network(x, tt/T, cc)
                    e2 = self.network(x, tt/T, nn_)
                    e = (1+omega)*e1 - omega*e2
                    x = s["oneover_sqrt_alpha"]*(x - (1-s["alpha_t"])/s["sqrt_oneminus_alpha_bar"]*e)
                    if t > 1:
                        z = torch.randn(x.shape, generator=generator, device=gd).to(device)
                        x = x + s["sqrt_beta_t"]*z
                pics.append(x)
        self.train(mode)
        x = torch.cat(pics, 0)
        x = x*STD + MEAN
        return x.clamp(0, 1)
