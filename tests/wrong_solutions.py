"""Wrong solutions that the checks must catch, and right ones of other designs that must pass, as edits of our own solution.

For maintainers: it quotes the solution and is no part of a handout. An edit is (old, new), with `old` exactly once in the
source, so that a change of the source cannot make a wrong solution right unseen.
"""

import inspect
import re
import textwrap
import types

import DDPM
import ResUNet

NET, PROCESS = inspect.getsource(ResUNet), inspect.getsource(DDPM)
CLASSES = {"ResUNet": "ConditionalUnet", "DDPM": "ConditionalDDPM"}
METHODS = {
    "network": ("ResUNet", "forward"),
    "scheduler": ("DDPM", "scheduler"),
    "forward": ("DDPM", "forward"),
    "sample": ("DDPM", "sample"),
}


def edited_source(section, edits):
    """The section's module with these edits made."""
    name = METHODS[section][0]
    source = NET if name == "ResUNet" else PROCESS
    for old, new in edits:
        assert source.count(old) == 1, f"{old!r} stands {source.count(old)} times in {name}.py; the catalogue needs an update"
        source = source.replace(old, new)
    return source


def edited(section, edits):
    """The class of the section's module with these edits made."""
    name, source = METHODS[section][0], edited_source(section, edits)
    module = types.ModuleType(f"{name}_edited")
    exec(compile(source, f"{name}_edited.py", "exec"), module.__dict__)
    return getattr(module, CLASSES[name])


def body(section):
    """What a student writes in the method of this section: between the markers, or else all after the docstring."""
    name, method = METHODS[section]
    source = NET if name == "ResUNet" else PROCESS
    start = source.index(f"    def {method}(", source.index(f"class {CLASSES[name]}"))
    end = re.compile(r"\n    def |\n    @|\nclass |\n@|\Z").search(source, start + 1).start()
    text = source[start:end]
    if "### BEGIN SOLUTION" in text:
        return text[text.index("### BEGIN SOLUTION") : text.index("### END SOLUTION")]
    return text[text.index('"""', text.index('"""') + 3) + 3 :].strip()


def solved_by(section, code, indent=8):
    """The edit that puts other code in place of what a student writes."""
    if section == "sample":
        indent = 12
    lines = textwrap.indent(textwrap.dedent(code).strip("\n"), " " * indent)
    return body(section), lines.lstrip() + "\n" + " " * indent


def unsolved(*sections):
    return [solved_by(section, "raise NotImplementedError") for section in sections]


# What many edits take the place of
EPS = 'x - at["beta_t"][i] / at["sqrt_oneminus_alpha_bar"][i] * eps'
OUT = 'return self.outblock(torch.cat([up2, down0], dim=1))'
TIME = 'temb1 = self.timeembed1(t)'
CLASS = 'cemb1 = self.conditionembed1(c)'
MIX = 'at["sqrt_alpha_bar"] * images + at["sqrt_oneminus_alpha_bar"] * noise'
GUIDE = '(1 + omega) * eps_c - omega * eps_u'
SHOW = 'return (x * STD + MEAN).clamp(0, 1)'
TOLD = 't.view(-1, 1, 1, 1) / T, c)'
LINE = 'torch.linspace(beta_1, beta_T, T, '
START = 'null = torch.full_like'
X_T = 'x = torch.randn(shape, **draw).to(device)  # x_T'
Z = '[i] * torch.randn(shape, **draw).to(device)'
READ = 'at = t_s.to(home) - 1'
LOSS = '/ T, c), noise)'
ROWS = 'torch.rand(len(c), 1, **draw)'
NOISE = 'torch.randn(images.shape, **draw)'
STEPS = 'torch.randint(1, T + 1, (len(images),), **draw)'

# (section, name, edits, words of the diagnosis that must appear)
WRONG = [
    # ---- 1. the network
    ("network", "time ignored", [(TIME, "t = torch.zeros_like(t)\n        " + TIME)], "time embeddings are left out"),
    ("network", "condition ignored", [(CLASS, "c = torch.ones_like(c)\n        " + CLASS)], "condition embeddings are left out"),
    (
        "network",
        "one time embedding unused",
        [("self.downblock2(down1), temb1, cemb1)", "self.downblock2(down1), 0 * temb1, cemb1)")],
        "time embeddings are not used",
    ),
    (
        "network",
        "skip at 28 dropped",
        [("torch.cat([up2, down0], dim=1)", "torch.cat([up2, up2], dim=1)")],
        "outblock has no skip connection",
    ),
    ("network", "skip at 14 dropped", [("self.upblock2(up1, down1)", "self.upblock2(up1, up1)")], "upblock2 has no skip connection"),
    ("network", "skip at 7 dropped", [("self.upblock1(up0, down2)", "self.upblock1(up0, up0)")], "upblock1 has no skip connection"),
    ("network", "bottom dropped", [("self.upblock1(up0, down2)", "self.upblock1(down2, down2)")], "bottom of the U is left out"),
    ("network", "bottom detached", [("vector = self.to_vec(down2) ", "vector = self.to_vec(down2).detach() * 0 ")], "bottom of the U is left out"),
    (
        "network",
        "time of the first picture for all",
        [(TIME, "t = t.reshape(-1, 1)[:1].expand(len(x), 1)\n        " + TIME)],
        "t of one picture is used for others",
    ),
    (
        "network",
        "condition of the first picture for all",
        [(CLASS, "c = c[:1].expand_as(c)\n        " + CLASS)],
        "c of one picture is used for others",
    ),
    (
        "network",
        "times in reverse order",
        [(TIME, "t = t.reshape(-1, 1).flip(0)\n        " + TIME)],
        "t of one picture|matched with other pictures",
    ),
    (
        "network",
        "batch standardised",
        [("down0 = self.init_conv(x) ", "down0 = self.init_conv((x - x.mean()) / x.std()) ")],
        "batch is averaged",
    ),
    (
        "network",
        "sigmoid at the end",
        [(OUT, "return torch.sigmoid(self.outblock(torch.cat([up2, down0], dim=1)))")],
        "noise is negative too",
    ),
    ("network", "tanh at the end", [(OUT, "return torch.tanh(self.outblock(torch.cat([up2, down0], dim=1)))")], "noise has no bounds"),
    ("network", "outblock left out", [(OUT, "return up2 + down0")], "last block is left out|stays"),
    (
        "network",
        "last fusion left out",
        [("self.fusion4(self.upblock2(up1, down1), temb2, cemb2)", "self.upblock2(up1, down1)")],
        "fusion block is left out",
    ),
    ("network", "squeezed", [(OUT, "return self.outblock(torch.cat([up2, down0], dim=1)).squeeze()")], "dimension is squeezed away"),
    (
        "network",
        "dropout never off",
        [("down0 = self.init_conv(x) ", "down0 = F.dropout(self.init_conv(x), 0.1) ")],
        "F.dropout has no training",
    ),
    ("network", "input changed", [("down0 = self.init_conv(x) ", "x *= 0.5\n        down0 = self.init_conv(x) ")], "changes x in place"),
    (
        "network",
        "logarithm of the condition",
        [("t, c = t.to(x.dtype), c.to(x.dtype)", "t, c = t.to(x.dtype), c.to(x.dtype).log()")],
        "not finite",
    ),
    (
        "network",
        "null and class 0 alike",
        [(CLASS, "c = c.abs() * (c.sum(1, keepdim=True) > 0) + (c.sum(1, keepdim=True) < 0) * torch.eye(c.shape[1])[0]\n        " + CLASS)],
        "conditions 0 and 10",
    ),
    ("network", "output detached", [(OUT, OUT + ".detach()")], "output has no graph"),
    ("network", "two results", [(OUT, OUT + ", vector")], "returns 2 values"),
    (
        "network",
        "no time and class on the way up",
        [("self.fusion3(self.upblock1(up0, down2), temb2, cemb2)", "self.upblock1(up0, down2)")],
        "fusion block is left out",
    ),
    # ---- 2.1 the schedule
    (
        "scheduler",
        "alpha_bar leaves out alpha_t",
        [("alpha_bar = torch.cumprod(1 - beta, dim=0)", "alpha_bar = torch.cumprod(1 - beta, dim=0) / (1 - beta)")],
        "leaves out alpha_t itself",
    ),
    ("scheduler", "read one step late", [(READ, "at = t_s.to(home).clamp(max=T) % T")], "one step late"),
    ("scheduler", "looks beyond the table", [(READ, "at = t_s.to(home)")], "beyond the end of a table"),
    ("scheduler", "read one step early", [(READ, "at = t_s.to(home) - 2")], "one step early"),
    (
        "scheduler",
        "T + 1 points from t = 0",
        [(LINE, "torch.linspace(beta_1, beta_T, T + 1, "), (READ, "at = t_s.to(home)")],
        "T \\+ 1 points and starts at t = 0",
    ),
    ("scheduler", "T + 1 points", [(LINE, "torch.linspace(beta_1, beta_T, T + 1, ")], "beta_T is never reached"),
    (
        "scheduler",
        "roots swapped",
        [('"sqrt_alpha_bar": alpha_t_bar.sqrt()', '"sqrt_alpha_bar": (1 - alpha_t_bar).sqrt()')],
        "two roots are swapped",
    ),
    (
        "scheduler",
        "root of 1 - alpha_bar missing",
        [('"sqrt_oneminus_alpha_bar": (1 - alpha_t_bar).sqrt()', '"sqrt_oneminus_alpha_bar": 1 - alpha_t_bar')],
        "this is 1 - alpha_bar",
    ),
    (
        "scheduler",
        "root of alpha_bar missing",
        [('"sqrt_alpha_bar": alpha_t_bar.sqrt()', '"sqrt_alpha_bar": alpha_t_bar')],
        "this is alpha_bar",
    ),
    ("scheduler", "root of beta missing", [('"sqrt_beta_t": beta_t.sqrt()', '"sqrt_beta_t": beta_t')], "root is missing: this is beta_t"),
    ("scheduler", "1 / alpha", [('1 / alpha_t.sqrt()', '1 / alpha_t')], "this is 1 / alpha_t"),
    ("scheduler", "not inverted", [('1 / alpha_t.sqrt()', 'alpha_t.sqrt()')], "not inverted"),
    ("scheduler", "alpha is the product", [('"alpha_t": alpha_t,', '"alpha_t": alpha_t_bar,')], "which is alpha_t_bar"),
    (
        "scheduler",
        "alpha_bar is alpha",
        [('"alpha_t_bar": alpha_t_bar,', '"alpha_t_bar": alpha_t,')],
        "product over all steps up to t is missing",
    ),
    ("scheduler", "product of the betas", [("torch.cumprod(1 - beta, dim=0)", "torch.cumprod(beta, dim=0)")], "product of the betas"),
    (
        "scheduler",
        "sum for product",
        [("torch.cumprod(1 - beta, dim=0)", "1 - torch.cumsum(beta, dim=0).clamp(max=0.999)")],
        "alpha_t_bar at t = ",
    ),
    ("scheduler", "all settings written down", [(LINE, "torch.linspace(1e-4, 2e-2, 400, ")], "written into the code"),
    ("scheduler", "T written down", [(LINE, "torch.linspace(beta_1, beta_T, 400, ")], "T is written into the code"),
    ("scheduler", "backwards", [(LINE, "torch.linspace(beta_T, beta_1, T, ")], "backwards|swapped"),
    (
        "scheduler",
        "linear in the root",
        [
            (
                READ,
                "beta = torch.linspace(beta_1**0.5, beta_T**0.5, T, dtype=torch.float64) ** 2\n        "
                "alpha_bar = torch.cumprod(1 - beta, dim=0)\n        "
                + READ,
            )
        ],
        "square root of beta is linear",
    ),
    (
        "scheduler",
        "whole table",
        [
            (
                "beta_t, alpha_t, alpha_t_bar = beta[at], 1 - beta[at], alpha_bar[at]",
                "beta_t, alpha_t, alpha_t_bar = beta, 1 - beta, alpha_bar",
            )
        ],
        "not the whole table",
    ),
    ("scheduler", "sorted", [(READ, "at = t_s.to(home).sort().values - 1")], "keep the order of t_s"),
    (
        "scheduler",
        "product over the batch",
        [
            (
                "beta_t, alpha_t, alpha_t_bar = beta[at], 1 - beta[at], alpha_bar[at]",
                "beta_t, alpha_t, alpha_t_bar = beta[at], 1 - beta[at], torch.cumprod(1 - beta[at], 0)",
            )
        ],
        "product runs over the t_s asked for",
    ),
    ("scheduler", "time steps changed", [(READ, "t_s -= 1\n        at = t_s.to(home)")], "in place: write t_s - 1"),
    (
        "scheduler",
        "another schedule",
        [(READ, "beta = beta ** 2\n        alpha_bar = torch.cumprod(1 - beta, dim=0)\n        " + READ)],
        "beta_t is squared",
    ),
    ("scheduler", "one name missing", [('            "sqrt_alpha_bar": alpha_t_bar.sqrt(),\n', "")], "returns no sqrt_alpha_bar"),
    # ---- 2.2 training
    ("forward", "never hidden", [("< mask_p", "< 0")], "never hidden"),
    ("forward", "always hidden", [("< mask_p", "< 2")], "always hidden"),
    ("forward", "hidden by element", [(ROWS, "torch.rand(c.shape, **draw)")], "draw one number a row"),
    ("forward", "hidden by randn", [(ROWS, "torch.randn(len(c), 1, **draw)")], "torch.randn is compared|torch.rand with mask_p"),
    ("forward", "hidden the wrong way round", [("< mask_p", ">= mask_p")], "wrong way round|although mask_p = 0"),
    ("forward", "one mask for the batch", [(ROWS, "torch.rand(1, 1, **draw)")], "one number is drawn for the whole batch"),
    ("forward", "mask_p written down", [("< mask_p", "< 0.1")], "mask_p is written into the code"),
    ("forward", "null of zeros", [("torch.where(hidden, mask_value, c)", "torch.where(hidden, 0, c)")], "hidden rows are zeros"),
    (
        "forward",
        "only the 1 replaced",
        [("torch.where(hidden, mask_value, c)", "torch.where(hidden, mask_value * c, c)")],
        "only the 1 of a hidden row",
    ),
    ("forward", "raw time", [(TOLD, "t.view(-1, 1, 1, 1).float(), c)")], "given t itself"),
    ("forward", "shifted time", [(TOLD, "(t.view(-1, 1, 1, 1) - 1) / T, c)")], "counted from 0"),
    ("forward", "time backwards", [(TOLD, "1 - t.view(-1, 1, 1, 1) / T, c)")], "runs backwards"),
    ("forward", "times of other pictures", [(TOLD, "t.flip(0).view(-1, 1, 1, 1) / T, c)")], "another order than the pictures"),
    (
        "forward",
        "one t for the batch",
        [(STEPS, "torch.randint(1, T + 1, (1,), **draw).expand(len(images))")],
        "one t is drawn for the whole batch",
    ),
    ("forward", "t never T", [("torch.randint(1, T + 1, ", "torch.randint(1, T, ")], "t = T is never drawn"),
    ("scheduler", "one of t_s for all", [(READ, "at = (t_s.to(home) - 1).max().view(1)")], "returns the values of one alone"),
    ("forward", "schedule asked for t - 1", [("at = self.scheduler(t)\n        x_t", "at = self.scheduler(t - 1)\n        x_t")], "it takes t itself"),
    ("forward", "t up to T + 1", [("torch.randint(1, T + 1, ", "torch.randint(1, T + 2, ")], r"t = T \+ 1 is drawn"),
    ("sample", "clamped before the noise", [('x = at["oneover_sqrt_alpha"][i] * x', 'x = (at["oneover_sqrt_alpha"][i] * x).clamp(-1, 1)')], "cut off inside the loop"),
    ("sample", "divided by the root of alpha_bar", [('x = at["oneover_sqrt_alpha"][i] * x', 'x = 1 / at["sqrt_alpha_bar"][i] * x')], "alpha_bar"),
    ("sample", "weights of the two change places", [(GUIDE, "omega * eps_c - (1 + omega) * eps_u")], r"1 \+ omega weighs the unconditional"),
    ("sample", "scaled back twice", [(SHOW, "x = x * STD + MEAN\n        " + SHOW)], "scaled back twice"),
    ("forward", "no number", [(LOSS, '/ T, c), noise) * float("nan")')], "the loss is nan, or its gradient is not finite"),
    ("forward", "schedule asked in another shape", [("at = self.scheduler(t)", "at = self.scheduler(t.view(-1, 1, 1, 1))")], "in a form that it does not take"),
    ("sample", "schedule asked in another shape", [("at = self.scheduler(steps)", "at = self.scheduler(steps.view(-1, 1, 1, 1))")], "in a form that it does not take"),
    ("forward", "t from 0", [("torch.randint(1, T + 1, ", "torch.randint(0, T, ")], "outside 1 … T"),
    ("forward", "t never 1", [("torch.randint(1, T + 1, ", "torch.randint(2, T + 1, ")], "t = 1 is never drawn"),
    ("forward", "t rounded", [(STEPS, "(1 + (T - 1) * torch.rand(len(images), **draw)).round().long()")], "t is rounded"),
    ("forward", "roots swapped", [(MIX, 'at["sqrt_oneminus_alpha_bar"] * images + at["sqrt_alpha_bar"] * noise')], "two roots are swapped"),
    ("forward", "roots missing", [(MIX, 'at["alpha_t_bar"] * images + (1 - at["alpha_t_bar"]) * noise')], "both roots are missing"),
    ("forward", "one step of noise", [(MIX, 'at["alpha_t"].sqrt() * images + at["sqrt_beta_t"] * noise')], "one step of noise"),
    ("forward", "noise subtracted", [("* images + at[", "* images - at[")], "noise is subtracted"),
    ("forward", "clean image shown", [("self.network(x_t, t.view", "self.network(images, t.view")], "clean image"),
    ("forward", "image as target", [(LOSS, "/ T, c), images)")], "prediction with the images"),
    ("forward", "noisy image as target", [(LOSS, "/ T, c), x_t)")], "prediction with the noisy images"),
    ("forward", "another noise as target", [(LOSS, "/ T, c), torch.randn_like(noise))")], "that same noise"),
    (
        "forward",
        "velocity as target",
        [(LOSS, '/ T, c), at["sqrt_alpha_bar"] * noise - at["sqrt_oneminus_alpha_bar"] * images)')],
        "target is a velocity",
    ),
    (
        "forward",
        "summed loss",
        [("self.loss_fn(self.network", "nn.functional.mse_loss(reduction='sum', input=self.network"), (LOSS, "/ T, c), target=noise)")],
        "summed, not averaged",
    ),
    ("forward", "absolute loss", [("self.loss_fn(self.network", "nn.functional.l1_loss(self.network")], "mean absolute error"),
    ("forward", "loss without graph", [(LOSS, "/ T, c), noise).detach()")], "has no graph"),
    (
        "forward",
        "loss a picture",
        [
            ("self.loss_fn(self.network", "nn.functional.mse_loss(reduction='none', input=self.network"),
            (LOSS, "/ T, c), target=noise).mean((1, 2, 3))"),
        ],
        "loss is one number",
    ),
    ("forward", "uniform noise", [(NOISE, "torch.rand(images.shape, **draw)")], "noise is uniform"),
    ("forward", "one noise for all pictures", [(NOISE, "torch.randn(images[:1].shape, **draw).expand_as(images)")], "share one noise"),
    (
        "forward",
        "one number a picture",
        [(NOISE, "torch.randn(len(images), 1, 1, 1, **draw).expand_as(images)")],
        "share one random number",
    ),
    ("forward", "seed inside", [("hidden = torch.rand", "torch.manual_seed(0)\n        hidden = torch.rand")], "no seed inside forward"),
    ("forward", "images changed", [("x_t = at[", "images.mul_(1.0001)\n        x_t = at[")], "changes the images"),
    ("forward", "root of the loss", [(LOSS, "/ T, c), noise).sqrt()")], "root of the mean squared error"),
    ("forward", "loss divided by the batch", [(LOSS, "/ T, c), noise) / len(images)")], "divided by the size of the batch"),
    ("forward", "labels to the network", [(TOLD, "t.view(-1, 1, 1, 1) / T, conditions)")], "never hidden"),
    ("forward", "time as a whole number", [(TOLD, "(t.view(-1, 1, 1, 1) // T).float(), c)")], "network is told"),
    ("forward", "first time for all", [(TOLD, "t[:1].view(-1, 1, 1, 1) / T, c)")], "network is told"),
    ("forward", "noise alone shown", [(MIX, '0 * images + noise')], "noise alone"),
    ("forward", "image unscaled", [(MIX, 'images + at["sqrt_oneminus_alpha_bar"] * noise')], "image is not scaled"),
    ("forward", "noise unscaled", [(MIX, 'at["sqrt_alpha_bar"] * images + noise')], "noise is not scaled"),
    (
        "forward",
        "schedule one step late",
        [("at = self.scheduler(t)\n        x_t", "at = self.scheduler(t % T + 1)\n        x_t")],
        "network is told",
    ),
    # ---- 2.3 sampling
    ("sample", "noise in the last step", [("if t > 1:", "if t > 0:")], "last step, t = 1, adds noise"),
    ("sample", "no noise in the last two steps", [("if t > 1:", "if t > 2:")], "step t = 2 adds no noise"),
    ("sample", "never noise", [("if t > 1:", "if False:")], "no noise is added between the steps"),
    ("sample", "sigma is beta", [('at["sqrt_beta_t"][i] * torch', 'at["beta_t"][i] * torch')], "its root is missing"),
    (
        "sample",
        "sigma of the posterior",
        [
            (
                'at["sqrt_beta_t"][i] * torch',
                '((1 - at["alpha_t_bar"][i - 1]) / (1 - at["alpha_t_bar"][i]) * at["beta_t"][i]).sqrt() * torch',
            )
        ],
        "posterior variance",
    ),
    ("sample", "sigma is 1", [('at["sqrt_beta_t"][i] * torch', '1 * torch')], "not scaled by sigma_t"),
    ("sample", "guidance without 1 +", [(GUIDE, "omega * eps_c - omega * eps_u")], "1 \\+ omega is left out"),
    ("sample", "guidance swapped", [(GUIDE, "(1 + omega) * eps_u - omega * eps_c")], "predictions are swapped"),
    ("sample", "guidance by omega - 1", [(GUIDE, "eps_u + omega * (eps_c - eps_u)")], "guidance by omega - 1"),
    ("sample", "guidance added", [(GUIDE, "(1 + omega) * eps_c + omega * eps_u")], "added, not subtracted"),
    ("sample", "guidance reversed", [(GUIDE, "(1 - omega) * eps_c + omega * eps_u")], "other sign"),
    ("sample", "guidance ignored", [(GUIDE, "eps_c")], "conditional prediction alone"),
    ("sample", "halves mixed up", [("eps_c = self.network(x, time, c)", "eps_c = self.network(x, time, null)"), ("eps_u = self.network(x, time, null)", "eps_u = self.network(x, time, c)")], "predictions are swapped"),
    ("sample", "omega of the settings", [(START, "omega = self.dmconfig.omega\n            " + START)], "taken from dmconfig"),
    ("sample", "null of zeros", [("torch.full_like(c, mask_value)", "torch.zeros_like(c)")], "row of zeros"),
    ("sample", "never the null condition", [("torch.full_like(c, mask_value)", "c.clone()")], "each step runs once|never sees the null"),
    ("sample", "labels reversed", [(START, "c = c.flip(0)\n            " + START)], "another order than the labels"),
    ("sample", "not scaled back", [(SHOW, "return x.clamp(0, 1)")], "not scaled back"),
    ("sample", "not clamped", [(SHOW, "return x * STD + MEAN")], "not clamped to"),
    ("sample", "constants swapped", [(SHOW, "return (x * MEAN + STD).clamp(0, 1)")], "are swapped: x"),
    ("sample", "normalised again", [(SHOW, "return ((x - MEAN) / STD).clamp(0, 1)")], "normalised once more"),
    ("sample", "stretched", [(SHOW, "return (x - x.min()) / (x.max() - x.min())")], "stretched"),
    ("sample", "last step skipped", [("range(T, 0, -1)", "range(T, 1, -1)")], "step t = 1 is left out"),
    ("sample", "first step skipped", [("range(T, 0, -1)", "range(T - 1, 0, -1)")], "step t = T is left out"),
    (
        "sample",
        "down to t = 0",
        [("range(T, 0, -1)", "range(T, -1, -1)"), ("i = t - 1", "i = t - 1\n                self.scheduler(torch.tensor(t))")],
        "from T down to 1",
    ),
    ("sample", "upwards", [("range(T, 0, -1)", "range(1, T + 1)")], "run upwards"),
    ("sample", "every other step", [("range(T, 0, -1)", "range(T, 0, -2)")], "every other step"),
    ("sample", "raw time", [("(steps[i] / T)", "steps[i].float()")], "given t itself"),
    ("sample", "shifted time", [("(steps[i] / T)", "(i / torch.tensor(T))")], "counted from 0|run from T - 1 to 0"),
    ("sample", "same time always", [("(steps[i] / T)", "(steps[-1] / T)")], "always told the same time"),
    (
        "sample",
        "schedule one step late",
        [
            ("i = t - 1", "i = t - 1\n                j = min(t, T - 1)"),
            (EPS, EPS.replace("[i]", "[j]")),
            ('at["oneover_sqrt_alpha"][i] * x', 'at["oneover_sqrt_alpha"][j] * x'),
            ('at["sqrt_beta_t"][i] *', 'at["sqrt_beta_t"][j] *'),
        ],
        "one step late",
    ),
    ("sample", "never divided by sqrt(alpha)", [('x = at["oneover_sqrt_alpha"][i] * x', "pass")], "not divided by sqrt"),
    (
        "sample",
        "multiplied by sqrt(alpha)",
        [('x = at["oneover_sqrt_alpha"][i] * x', 'x = at["alpha_t"][i].sqrt() * x')],
        "sqrt\\(alpha_t\\) multiplies",
    ),
    ("sample", "noise predicted is added", [("x = x - at[", "x = x + at[")], "predicted noise is added"),
    (
        "sample",
        "root in the weight missing",
        [(EPS, EPS.replace('at["sqrt_oneminus_alpha_bar"][i]', '(1 - at["alpha_t_bar"][i])'))],
        "not beta_t / \\(1 - alpha_bar\\)",
    ),
    ("sample", "weight without the root's division", [(EPS, 'x - at["beta_t"][i] * eps')], "not divided by sqrt\\(1 - alpha_bar\\)"),
    ("sample", "root of beta in the weight", [(EPS, EPS.replace('at["beta_t"]', 'at["sqrt_beta_t"]'))], "stands in place of beta_t"),
    (
        "sample",
        "one noise for all steps",
        [(X_T, "x = z = torch.randn(shape, **draw).to(device)  # x_T"), (Z, "[i] * z")],
        "drawn once, before the loop",
    ),
    ("sample", "one noise for all pictures", [(Z, "[i] * torch.randn(shape, **draw)[:1]")], "share one noise"),
    ("sample", "uniform noise", [(Z, "[i] * torch.rand(shape, **draw).to(device)")], "noise is uniform"),
    ("sample", "starts from zeros", [(X_T, "x = torch.zeros(shape).to(device)  # x_T")], "x_T has mean|same noise"),
    ("sample", "T written down", [(START, "T = 10\n            " + START)], "written into the code"),
    ("sample", "multiplied by 255", [(SHOW, SHOW + " * 255")], "multiplied by 255"),
    ("sample", "clamped inside the loop", [(Z, Z + "\n                    x = x.clamp(-1, 1)")], "cut off inside the loop"),
    ("sample", "schedule backwards", [(EPS, EPS.replace("[i]", "[T - t]"))], "No usual mistake|read backwards"),
    (
        "sample",
        "divided by alpha",
        [('at["oneover_sqrt_alpha"][i] * x', 'x / at["alpha_t"][i]')],
        "divide by sqrt\\(alpha_t\\), not alpha_t",
    ),
    (
        "sample",
        "divided by the root of alpha_bar",
        [('at["oneover_sqrt_alpha"][i] * x', 'x / at["alpha_t_bar"][i].sqrt()')],
        "alpha_bar stands in place of alpha_t",
    ),
    (
        "sample",
        "sigma of alpha_bar",
        [('at["sqrt_beta_t"][i] * torch', 'at["sqrt_oneminus_alpha_bar"][i] * torch')],
        "sigma_t is sqrt\\(1 - alpha_bar\\)",
    ),
    ("sample", "time counted otherwise than in training", [("(steps[i] / T)", "((steps[i] - 1) / (T - 1))")], "use one of them in both"),
    ("sample", "training counts time otherwise", [(TOLD, "(t.view(-1, 1, 1, 1) - 1) / (T - 1), c)")], "use one of them in both"),
    ("sample", "seed inside", [(START, "torch.manual_seed(0)\n            " + START)], "set no seed inside"),
]

OTHER_NETWORK = """
    class Block(nn.Module):
        def __init__(self, width, classes):
            super().__init__()
            self.a, self.b = nn.Conv2d(width, width, 3, padding=1), nn.Conv2d(width, width, 3, padding=1)
            self.film = nn.Linear(16 + classes, 2 * width)
            self.norm = nn.GroupNorm(4, width)

        def forward(self, h, e):
            scale, shift = self.film(e)[:, :, None, None].chunk(2, 1)
            return h + self.b(F.silu(self.norm(self.a(h)) * (1 + scale) + shift))


    class ConditionalUnet(nn.Module):
        def __init__(self, in_channels, n_feat=128, n_classes=10, input_dim=(28, 28)):
            super().__init__()
            self.first, self.last = nn.Conv2d(in_channels, 2 * n_feat, 3, padding=1), nn.Conv2d(2 * n_feat, in_channels, 3, padding=1)
            self.blocks = nn.ModuleList(Block(2 * n_feat, n_classes) for _ in range(2))
            nn.init.zeros_(self.last.weight), nn.init.zeros_(self.last.bias)

        def forward(self, x, t, c):
            angle = t.reshape(-1, 1) * 2.0 ** torch.arange(8)
            e = torch.cat([angle.sin(), angle.cos(), c], 1)
            h = self.first(x)
            for block in self.blocks:
                h = block(h, e)
            return self.last(h)
"""

OTHER_PROCESS = """
    class ConditionalDDPM(nn.Module):
        def __init__(self, dmconfig):
            super().__init__()
            self.dmconfig = dmconfig
            self.loss_fn = nn.MSELoss()
            self.network = ConditionalUnet(dmconfig.num_channels, dmconfig.num_feat, dmconfig.num_classes)

        def scheduler(self, t_s):
            config = self.dmconfig
            step = (config.beta_T - config.beta_1) / (config.T - 1) if config.T > 1 else 0
            betas = config.beta_1 + step * torch.arange(config.T)
            bars = torch.cumprod(1 - betas, 0)
            t_s = t_s.long().view(-1, 1) - 1
            b, bar = betas[t_s], bars[t_s]
            return {'beta_t': b, 'sqrt_beta_t': b ** 0.5, 'alpha_t': 1 - b, 'oneover_sqrt_alpha': 1 / (1 - b) ** 0.5, 'alpha_t_bar': bar,
                    'sqrt_alpha_bar': bar ** 0.5, 'sqrt_oneminus_alpha_bar': (1 - bar) ** 0.5}

        def forward(self, images, conditions):
            B, T = images.shape[0], self.dmconfig.T
            t = torch.randint(1, T + 1, (B, 1))
            values = self.scheduler(t)
            noise = torch.randn_like(images)
            noisy = values['sqrt_alpha_bar'][..., None, None] * images + values['sqrt_oneminus_alpha_bar'][..., None, None] * noise
            c = nn.functional.one_hot(conditions, self.dmconfig.num_classes).float()
            mask = torch.rand(B) < self.dmconfig.mask_p
            c[mask] = self.dmconfig.condition_mask_value
            return self.loss_fn(self.network(noisy, t[..., None, None] / T, c), noise)

        def sample(self, conditions, omega):
            config, B = self.dmconfig, conditions.shape[0]
            with torch.no_grad():
                c = nn.functional.one_hot(conditions, config.num_classes).float() if conditions.dim() == 1 else conditions
                x = torch.randn(B, config.num_channels, *config.input_dim)
                for t in range(config.T, 0, -1):
                    z = torch.randn(x.shape) if t > 1 else 0
                    told = torch.ones(B, 1, 1, 1) * t / config.T
                    v = {name: value[..., None, None] for name, value in self.scheduler(torch.tensor([t])).items()}
                    eps = (1 + omega) * self.network(x, told, c) - omega * self.network(x, told, torch.zeros_like(c) - 1)
                    x = v['oneover_sqrt_alpha'] * (x - (1 - v['alpha_t']) / v['sqrt_oneminus_alpha_bar'] * eps) + v['sqrt_beta_t'] * z
                return (x * 0.3081 + 0.1307).clamp(0, 1)


"""
WHOLE_CLASS = (
    PROCESS[PROCESS.index("class ConditionalDDPM") :],
    textwrap.dedent(OTHER_PROCESS).lstrip(),
)

# (section, name, edits): right, though other than ours
RIGHT = [
    ("network", "keywords in another order", [("self.fusion1(self.downblock1(down0), temb2, cemb2)", "self.fusion1(t=temb2, c=cemb2, x=self.downblock1(down0))")]),
    (
        "forward",
        "the difference in place",
        [("noise_loss = self.loss_fn(self.network(x_t, t.view(-1, 1, 1, 1) / T, c), noise)",
          "noise_loss = self.network(x_t, t.view(-1, 1, 1, 1) / T, c)\n        noise_loss -= noise\n        noise_loss = noise_loss.square().mean()")],
    ),
    *((section, "a class of its own, without our checks", [WHOLE_CLASS]) for section in ("scheduler", "forward", "sample")),
    (
        "network",
        "skips before the fusion",
        [
            (
                "down1 = self.fusion1(self.downblock1(down0), temb2, cemb2)",
                "raw1 = self.downblock1(down0); down1 = self.fusion1(raw1, temb2, cemb2)",
            ),
            ("self.upblock2(up1, down1)", "self.upblock2(up1, raw1)"),
        ],
    ),
    ("network", "time and condition change places", [("self.downblock1(down0), temb2, cemb2)", "self.downblock1(down0), cemb2, temb2)")]),
    ("network", "skip first", [("torch.cat([up2, down0], dim=1)", "torch.cat([down0, up2], dim=1)")]),
    (
        "network",
        "frozen embeddings",
        [
            (
                "self.fusion4 = FusionBlock(3 * n_feat, n_feat)",
                """self.fusion4 = FusionBlock(3 * n_feat, n_feat)
        for block in (self.timeembed1, self.timeembed2, self.conditionembed1, self.conditionembed2):
            block.requires_grad_(False)""",
            )
        ],
    ),
    ("network", "another network altogether", [(NET[NET.index("class ConditionalUnet") :], textwrap.dedent(OTHER_NETWORK))]),
    (
        "scheduler",
        "float32, by loops",
        [
            solved_by(
                "scheduler",
                """
        variance_dict = {name: [] for name in ("beta_t", "sqrt_beta_t", "alpha_t", "oneover_sqrt_alpha", "alpha_t_bar", "sqrt_alpha_bar",
                                               "sqrt_oneminus_alpha_bar")}
        beta = torch.linspace(beta_1, beta_T, T)
        bar = torch.cumprod(1 - beta, 0)
        for t in t_s.tolist():
            b, a = beta[t - 1], bar[t - 1]
            for name, value in zip(variance_dict, (b, b.sqrt(), 1 - b, 1 / (1 - b).sqrt(), a, a.sqrt(), (1 - a).sqrt())):
                variance_dict[name].append(value)
        variance_dict = {name: torch.stack(values) for name, values in variance_dict.items()}
        """,
            )
        ],
    ),
    (
        "scheduler",
        "by logarithms, in shape (B, 1)",
        [
            solved_by(
                "scheduler",
                """
        beta = beta_1 + (beta_T - beta_1) * torch.arange(T).float() / max(T - 1, 1)
        bar = torch.log1p(-beta).cumsum(0).exp()
        beta_t, alpha_t, alpha_t_bar = beta[t_s - 1], 1 - beta[t_s - 1], bar[t_s - 1]
        variance_dict = dict(beta_t=beta_t, sqrt_beta_t=beta_t.sqrt(), alpha_t=alpha_t, oneover_sqrt_alpha=alpha_t.rsqrt(),
                             alpha_t_bar=alpha_t_bar, sqrt_alpha_bar=alpha_t_bar.sqrt(), sqrt_oneminus_alpha_bar=(1 - alpha_t_bar).sqrt())
        """,
            ),
            ("value.to(t_s.device, torch.float32).view(-1, 1, 1, 1)", "value.view(-1, 1)"),
            (MIX, MIX.replace(" * ", ".view(-1, 1, 1, 1) * ")),
        ],
    ),
    (
        "forward",
        "bernoulli and multiplication, noise first",
        [
            solved_by(
                "forward",
                """
        noise = torch.empty_like(images).normal_()
        t = (torch.rand(len(images)) * T).long() + 1
        keep = torch.bernoulli(torch.full((len(c), 1), 1 - mask_p))
        c = c * keep + mask_value * (1 - keep)
        at = self.scheduler(t[:, None])
        x_t = at["sqrt_alpha_bar"].view(-1, 1, 1, 1) * images + at["sqrt_oneminus_alpha_bar"].view(-1, 1, 1, 1) * noise
        noise_loss = nn.functional.mse_loss(noise, self.network(x_t, t / T, c))
        """,
            )
        ],
    ),
    (
        "forward",
        "double inside, mask by masked_fill, literal -1",
        [
            solved_by(
                "forward",
                """
        noise = torch.randn_like(images).double()
        t = torch.randint(T, (len(images), 1)) + 1
        c = c.masked_fill(torch.rand(len(c)).lt(mask_p)[:, None], -1)
        bar = self.scheduler(t)["alpha_t_bar"].double().view(-1, 1, 1, 1)
        x_t = (bar.sqrt() * images + (1 - bar).sqrt() * noise).float()
        noise_loss = ((self.network(x_t, (t / T)[:, :, None, None], c) - noise) ** 2).mean()
        """,
            )
        ],
    ),
    (
        "forward",
        "exact count hidden",
        [
            solved_by(
                "forward",
                """
        rows = torch.randperm(len(c))[:round(mask_p * len(c))]
        c[rows] = mask_value
        t, noise = torch.randint(1, T + 1, (len(images),)), torch.normal(0.0, 1.0, images.shape)
        at = self.scheduler(t)
        x_t = at["sqrt_alpha_bar"] * images + at["sqrt_oneminus_alpha_bar"] * noise
        noise_loss = self.loss_fn(self.network(x_t, (t / T).view(-1, 1, 1, 1), c), noise)
        """,
            )
        ],
    ),
    (
        "sample",
        "two calls, c + w (c - u)",
        [
            solved_by(
                "sample",
                """
        null = -torch.ones_like(c)
        x = torch.randn(shape)
        for t in reversed(range(1, T + 1)):
            at = self.scheduler(torch.full((len(c),), t))
            told = torch.full((len(c), 1, 1, 1), t / T)
            eps_u, eps_c = self.network(x, told, null), self.network(x, told, c)
            eps = eps_c + omega * (eps_c - eps_u)
            z = torch.randn_like(x) if t > 1 else torch.zeros_like(x)
            x = at["oneover_sqrt_alpha"] * (x - (1 - at["alpha_t"]) / at["sqrt_oneminus_alpha_bar"] * eps) + at["sqrt_beta_t"] * z
        """,
            )
        ],
    ),
    (
        "sample",
        "null half first, double inside, always both",
        [
            solved_by(
                "sample",
                """
        both = torch.cat([torch.full_like(c, mask_value), c])
        x = torch.empty(shape).normal_().double()
        for t in range(T, 0, -1):
            at = {name: value.double() for name, value in self.scheduler(torch.tensor([[t]])).items()}
            z = torch.randn(shape).double() * (t > 1)
            eps_u, eps_c = self.network(x.float().repeat(2, 1, 1, 1), torch.tensor([t / T]), both).double().split(len(c))
            eps = (1 + omega) * eps_c - omega * eps_u
            x = at["oneover_sqrt_alpha"] * (x - at["beta_t"] / at["sqrt_oneminus_alpha_bar"] * eps) + at["sqrt_beta_t"] * z
        x = x.float()
        """,
            )
        ],
    ),
    (
        "sample",
        "through x_0, the posterior's mean",
        [
            solved_by(
                "sample",
                """
        null, x = torch.full_like(c, mask_value), torch.randn(shape)
        for t in range(T, 0, -1):
            at = self.scheduler(torch.tensor(t))
            before = self.scheduler(torch.tensor(t - 1))["alpha_t_bar"] if t > 1 else torch.ones(1, 1, 1, 1)
            told, bar = torch.full((len(c), 1), t / T), at["alpha_t_bar"]
            eps = (1 + omega) * self.network(x, told, c) - omega * self.network(x, told, null)
            x_0 = (x - at["sqrt_oneminus_alpha_bar"] * eps) / at["sqrt_alpha_bar"]
            x = before.sqrt() * at["beta_t"] / (1 - bar) * x_0 + at["alpha_t"].sqrt() * (1 - before) / (1 - bar) * x
            x = x + at["sqrt_beta_t"] * torch.randn(shape) * (t > 1)
        """,
            )
        ],
    ),
    ("sample", "mode and speed left to the caller", [("with fast(self.network, self.dmconfig.precision):", "if True:")]),
    (
        "sample",
        "labels only",
        [("c = one_hot(conditions, self.dmconfig.num_classes, None, device)", "c = nn.functional.one_hot(conditions, self.dmconfig.num_classes).float()")],
    ),
    ("sample", "one-hot rows only", [("c = one_hot(conditions, self.dmconfig.num_classes, None, device)", "c = conditions.float()")]),
    (
        "sample",
        "time as (t - 1) / (T - 1) in both",
        [("(steps[i] / T)", "((steps[i] - 1) / (T - 1))"), ("t.view(-1, 1, 1, 1) / T, c)", "(t.view(-1, 1, 1, 1) - 1) / (T - 1), c)")],
    ),
]
