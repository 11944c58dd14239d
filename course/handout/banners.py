"""What the banner in a skeleton says, for each function that students write."""

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
}
