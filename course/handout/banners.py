"""What the banner in a skeleton says, for each function that students write."""

from checks import FLOW

FLOW_README = """
**Section 3** is `explorations/flow_matching.ipynb`: you write `ConditionalFM.forward` and `.sample` in `explorations/FM.py`, check them
with `pytest -k flow`, and answer two questions. Hand in both files as well.
"""
FLOW_TASKS = {
    "explorations/FM.py": {
        "forward": """
The loss of a batch: the velocity of the straight path from noise to image.
Inputs:  images (B, C, H, W), c (B, num_classes) one-hot, mask_p, mask_value
         self.network(x_t, t as (B, 1, 1, 1), c), self.loss_fn; **draw for what draws random numbers
Output:  loss, a 0-dim tensor
Steps:   hide whole rows of c with probability mask_p, one t an image, uniform in [0, 1], noise, x_t = (1 - t) noise + t image,
         the network's answer, its error as a prediction of image - noise
""",
        "sample": """
Images from noise by T of Euler's steps, with guidance.
Inputs:  c (B, num_classes) one-hot, omega, shape = (B, C, H, W), T, mask_value, device
         self.network as above; **draw for what draws random numbers
Output:  x, the image at t = 1, (B, C, H, W), still normalised: the line below makes pixels of it
""",
    },
}
TASKS = {
    "ResUNet.py": {
        "forward": """
Connect the blocks: section 1 of the notebook, with its figure.
Inputs:  x (B, C, H, W), and the embeddings above: temb1, cemb1 (B, 2 n_feat, 1, 1), temb2, cemb2 (B, n_feat, 1, 1)
Output:  return the predicted noise, (B, C, H, W)
""",
    },
    "DDPM.py": {
        "scheduler": """
The seven quantities at the time steps t_s.
Inputs:  t_s (B,), whole numbers in 1 ... T; beta_1, beta_T, T
Output:  variance_dict, a dict of seven tensors (B,) with the names of the docstring
Note:    a table of T values begins at index 0, time at t = 1
""",
        "forward": """
The noise loss of a batch: the algorithm of training with guidance, section 2.2.
Inputs:  images (B, C, H, W), c (B, num_classes) one-hot, T, mask_p, mask_value
         self.network(x_t, t / T as (B, 1, 1, 1), c), self.scheduler, self.loss_fn
         **draw for what draws random numbers: torch.rand(..., **draw)
Output:  noise_loss, a 0-dim tensor
Steps:   hide whole rows of c with probability mask_p, one t an image, noise, x_t, the network's answer, its error
""",
        "sample": """
Images from noise: the algorithm of sampling with guidance, section 2.3.
Inputs:  c (B, num_classes) one-hot, omega, shape = (B, C, H, W), T, mask_value, device
         self.network and self.scheduler as above; **draw for what draws random numbers
Output:  x, the image at the end of the last step, (B, C, H, W), still normalised: the line below makes pixels of it
Note:    the step from t = 1 adds no noise
""",
    },
    **(FLOW_TASKS if FLOW else {}),
}
