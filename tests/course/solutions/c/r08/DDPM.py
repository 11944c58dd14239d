import torch, math
from torch import nn
from config import *
from ResUNet import ConditionalUnet

# homework diffusion - works dont touch!!

class ConditionalDDPM(nn.Module):
    def __init__(self, dmconfig):
        super().__init__()
        self.dmconfig = dmconfig
        self.lossFn = nn.MSELoss(reduction="mean")
        self.network = ConditionalUnet(dmconfig.num_channels, dmconfig.num_feat, dmconfig.num_classes)
        # make all the lists here. position 0 = nothing so that lst[t] is right
        self.betaList, self.abarList = [None], [1.0]
        step = (dmconfig.beta_T - dmconfig.beta_1) / max(dmconfig.T - 1, 1)
        for i in range(dmconfig.T):
            b = dmconfig.beta_1 + i * step
            self.betaList.append(b)
            self.abarList.append(self.abarList[-1] * (1 - b))

    def scheduler(self, t_s):
        t_s = torch.as_tensor(t_s)
        if t_s.is_floating_point() or t_s.is_complex() or t_s.dtype == torch.bool: raise ValueError("t not int")
        if t_s.numel() == 0 or t_s.ndim > 2 or (t_s.ndim == 2 and t_s.shape[1] != 1): raise ValueError("t shape " + str(t_s.shape))
        ts = t_s.reshape(-1).tolist()
        if min(ts) < 1 or max(ts) > self.dmconfig.T: raise ValueError("t is not in 1.." + str(self.dmconfig.T))
        out = {"beta_t": [], "sqrt_beta_t": [], "alpha_t": [], "oneover_sqrt_alpha": [], "alpha_t_bar": [], "sqrt_alpha_bar": [], "sqrt_oneminus_alpha_bar": []}
        for t in ts:
            b = self.betaList[t]
            ab = self.abarList[t]
            out["beta_t"].append(b)
            out["sqrt_beta_t"].append(math.sqrt(b))
            out["alpha_t"].append(1 - b)
            out["oneover_sqrt_alpha"].append(1 / math.sqrt(1 - b))
            out["alpha_t_bar"].append(ab)
            out["sqrt_alpha_bar"].append(math.sqrt(ab))
            out["sqrt_oneminus_alpha_bar"].append(math.sqrt(1 - ab))
        for k in out:
            out[k] = torch.tensor(out[k], dtype=torch.float32, device=t_s.device).view(len(ts), 1, 1, 1)
        return out

    def getC(self, cond, dev):
        K = self.dmconfig.num_classes
        if not torch.is_tensor(cond) or len(cond) == 0: raise ValueError("conditions??")
        if cond.ndim == 1:
            if cond.is_floating_point() or cond.dtype == torch.bool or cond.min() < 0 or cond.max() >= K: raise ValueError("bad labels")
            C = torch.zeros(len(cond), K, device=dev)
            C[torch.arange(len(cond)), cond.long()] = 1
            return C
        C = cond.to(dev).float()
        if C.ndim != 2 or C.shape[1] != K or not ((C == 0) + (C == 1)).all() or not (C.sum(1) == 1).all(): raise ValueError("not one hot")
        return C

    # noise with the generator (the generator can be on the cpu and the model on the gpu...)
    def rnd(self, size, gen, dev, uniform=False):
        d = dev if gen is None else gen.device
        f = torch.rand if uniform else torch.randn
        return f(*size, generator=gen, device=d).to(dev)

    def forward(self, images, conditions, generator=None):
        cfg = self.dmconfig
        if images.ndim != 4 or list(images.shape[1:]) != [cfg.num_channels] + list(cfg.input_dim): raise ValueError("images " + str(images.shape))
        if not images.is_floating_point(): raise ValueError("images must be float")
        bs = images.size(0); dev = images.device
        c = self.getC(conditions, dev)
        if len(c) != bs: raise ValueError("number of conditions")

        # mask: 1 = hidden
        m = (self.rnd((bs, 1), generator, dev, uniform=True) < cfg.mask_p).float()
        c = c * (1 - m) + cfg.condition_mask_value * m

        t = (self.rnd((bs,), generator, dev, uniform=True) * cfg.T).long() + 1
        t = torch.clamp(t, max=cfg.T)  # if float rounding makes T+1
        noise = self.rnd(images.shape, generator, dev)
        d = self.scheduler(t)
        xt = d["sqrt_alpha_bar"] * images + d["sqrt_oneminus_alpha_bar"] * noise
        tNorm = t.float() / cfg.T
        pred = self.network(xt, tNorm[:, None, None, None], c)
        return self.lossFn(pred, noise)

    def sample(self, conditions, omega, generator=None):
        if not is_finite(omega): raise ValueError("omega")
        cfg = self.dmconfig
        dev = next(self.network.parameters()).device
        c = self.getC(conditions, dev)
        cNull = torch.ones_like(c) * cfg.condition_mask_value
        N = len(c)
        size = (N, cfg.num_channels, cfg.input_dim[0], cfg.input_dim[1])
        wasTrain = self.network.training
        self.network.eval()
        with torch.no_grad():
            x = self.rnd(size, generator, dev)
            t = cfg.T
            while t > 0:
                tNorm = torch.ones(N, 1, 1, 1, device=dev) * t / cfg.T
                eC = self.network(x, tNorm, c)
                eU = self.network(x, tNorm, cNull)
                e = (1 + omega) * eC - omega * eU
                b = self.betaList[t]
                ab = self.abarList[t]
                x = (x - b / math.sqrt(1 - ab) * e) / math.sqrt(1 - b)
                if t != 1:
                    x = x + math.sqrt(b) * self.rnd(size, generator, dev)
                t -= 1
        if wasTrain: self.network.train()
        x = x * STD + MEAN
        x[x < 0] = 0
        x[x > 1] = 1
        return x
