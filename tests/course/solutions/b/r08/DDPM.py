import torch
import torch.nn as nn
import torch.nn.functional as F
from ResUNet import ConditionalUnet
from config import MEAN, STD

cuda = torch.cuda.is_available()


class ConditionalDDPM(nn.Module):
    def __init__(self, dmconfig):
        super().__init__()
        self.dmconfig = dmconfig
        self.loss_fn = nn.MSELoss()
        self.network = ConditionalUnet(1, self.dmconfig.num_feat, self.dmconfig.num_classes)

    def scheduler(self, t_s):
        # t_s: (B, 1)
        beta_1, beta_T, T = self.dmconfig.beta_1, self.dmconfig.beta_T, self.dmconfig.T
        B, one = t_s.shape
        beta = torch.linspace(beta_1, beta_T, T).to(t_s.device)
        alpha = 1 - beta
        alpha_bar = torch.ones(T).to(t_s.device)
        alpha_bar[0] = alpha[0]
        for i in range(1, T):
            alpha_bar[i] = alpha_bar[i - 1] * alpha[i]

        beta_t = beta.expand(B, T).gather(1, t_s - 1)
        alpha_t = alpha.expand(B, T).gather(1, t_s - 1)
        alpha_t_bar = alpha_bar.expand(B, T).gather(1, t_s - 1)

        return {
            'beta_t': beta_t.view(B, 1, 1, 1),
            'sqrt_beta_t': torch.sqrt(beta_t).view(B, 1, 1, 1),
            'alpha_t': alpha_t.view(B, 1, 1, 1),
            'oneover_sqrt_alpha': (1 / torch.sqrt(alpha_t)).view(B, 1, 1, 1),
            'alpha_t_bar': alpha_t_bar.view(B, 1, 1, 1),
            'sqrt_alpha_bar': torch.sqrt(alpha_t_bar).view(B, 1, 1, 1),
            'sqrt_oneminus_alpha_bar': torch.sqrt(1 - alpha_t_bar).view(B, 1, 1, 1),
        }

    def forward(self, images, conditions):
        T = self.dmconfig.T
        B = images.shape[0]
        if cuda:
            images, conditions = images.cuda(), conditions.cuda()

        # one hot
        if len(conditions.shape) == 1:
            conditions = F.one_hot(conditions, num_classes=self.dmconfig.num_classes)
        conditions = conditions.float().clone()

        # mask
        for b in range(B):
            if torch.rand(1).item() < self.dmconfig.mask_p:
                conditions[b, :] = self.dmconfig.condition_mask_value

        t = torch.randint(1, T + 1, (B, 1))
        if cuda:
            t = t.cuda()
        eps = torch.randn_like(images)
        vd = self.scheduler(t)
        x_t = vd['sqrt_alpha_bar'] * images + vd['sqrt_oneminus_alpha_bar'] * eps
        eps_hat = self.network(x_t, t.view(B, 1, 1, 1).float() / T, conditions)
        noise_loss = self.loss_fn(eps_hat, eps)
        return noise_loss

    def sample(self, conditions, omega):
        self.network.eval()
        T = self.dmconfig.T
        if cuda:
            conditions = conditions.cuda()
        if len(conditions.shape) == 1:
            conditions = F.one_hot(conditions, num_classes=self.dmconfig.num_classes)
        conditions = conditions.float()
        B = conditions.shape[0]
        null = self.dmconfig.condition_mask_value * torch.ones_like(conditions)

        X_t = torch.randn(B, 1, 28, 28)
        if cuda:
            X_t = X_t.cuda()
        with torch.no_grad():
            for t in torch.arange(T, 0, -1):
                t_s = t.repeat(B, 1)
                if cuda:
                    t_s = t_s.cuda()
                vd = self.scheduler(t_s)
                nt = (t_s / T).view(B, 1, 1, 1)
                z = torch.randn_like(X_t)
                if t == 1:
                    z = torch.zeros_like(X_t)
                eps_c = self.network(X_t, nt, conditions)
                eps_u = self.network(X_t, nt, null)
                eps = (1 + omega) * eps_c - omega * eps_u
                X_t = vd['oneover_sqrt_alpha'] * (X_t - (1 - vd['alpha_t']) / vd['sqrt_oneminus_alpha_bar'] * eps) + vd['sqrt_beta_t'] * z
        self.network.train()
        generated_images = (X_t * STD + MEAN).clamp(0, 1)
        return generated_images
