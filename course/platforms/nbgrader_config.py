"""Settings for nbgrader; python -m course nbgrader OUT puts them beside the assignment that they name.

nbgrader executes each submission's notebook, unconfined: give it only to a machine that holds nothing else. Without a GPU the small
settings apply, and a submission takes about seven minutes on two cores.
"""

c = get_config()  # noqa: F821  (nbgrader defines it)

# The markers as course.handout.skeleton knows them, and the words of the handout.
c.ClearSolutions.begin_solution_delimeter = "### BEGIN SOLUTION"
c.ClearSolutions.end_solution_delimeter = "### END SOLUTION"
c.ClearSolutions.code_stub = {"python": "# YOUR CODE HERE\nraise NotImplementedError"}
c.ClearSolutions.text_stub = "**Answer.** YOUR ANSWER HERE"

# What students write is graded as they wrote it; every other file, the tests among them, is put back as it was handed out.
c.Autograde.exclude_overwriting = {"ConditionalDDPM": ["ResUNet.py", "DDPM.py"]}

# Training is one cell; nbgrader's own 30 s would end it.
c.Execute.timeout = 3600
c.Execute.iopub_timeout = 60

# What a student's folder may hold besides: downloaded digits, caches.
c.CourseDirectory.ignore = [".ipynb_checkpoints", ".git", ".pytest_cache", "__pycache__", "*.pyc", "data"]
