"""The checks of the four sections, which students, the notebook and the grader share."""
