"""The checks of the four sections, which students, the notebook and the grader share."""

FLOW = False  # True: explorations/FM.py is handed out and graded as well; what a person marks of it stands in course/grading/rubric.py
