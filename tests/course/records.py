"""Records made by hand, and a stand-in for the grader that gives them, for the tests of what is made of a record."""

import base64
import io
import os
import time
from pathlib import Path

from PIL import Image

from course.report.record import Property, Record, Section

EVIL = '<script>alert("x")</script>\x1b[31m & "quoted" \x00\ud800'
SHIFTED = "the schedule starts at t = 0"
SWAPPED = "the two roots are swapped"


def png(width=40, height=30):
    content = io.BytesIO()
    Image.new("RGB", (width, height), "teal").save(content, "PNG")
    return base64.b64encode(content.getvalue()).decode()


def a_record(name="alice", shifted=True, swapped=False, says=(), notes=(), trained=None, seconds=12.4):
    """A submission with mistakes; `trained`: the points for the training, None where a person gives them."""
    message = (
        f"This is what you get when {SHIFTED}: time begins at 1 and a table at index 0, so step t stands at index t - 1 (notebook 2.1).\n"
        "  expected  0.980000  0.931778  0.857236\n"
        "  received  0.931778  0.857236  0.760939"
    )
    reached = (Property("the output has the shape of x", 2, 2), Property("time and class reach it", 4, 4))
    network = Section("network", "1. Denoising network", 6, 6, reached)
    schedule = Section(
        "scheduler", "2.1 Variance schedule", 2 if shifted else 4, 4,
        (
            Property("beta_t rises linearly from beta_1 at t = 1 to beta_T at t = T", 0.0 if shifted else 2, 2,
                     (message, *says) if shifted else says, (SHIFTED,) if shifted else ()),
            Property("alpha_bar is the product up to and including t, whatever the other entries of the dictionary hold", 2, 2),
        ),
    )  # fmt: skip
    forward = Section(
        "forward", "2.2 Training", 3.5 if swapped else 6, 6,
        (Property("x_t mixes image and noise by the two roots", 3.5 if swapped else 6, 6,
                  (f"{SWAPPED.capitalize()}.",) if swapped else (), (SWAPPED,) if swapped else ()),),
        notes=("The mask hides an exact number of rows. That is right as well.",),
    )  # fmt: skip
    sample = Section("sample", "2.3 Sampling", 6, 6, (Property("guidance is (1 + w) eps_c - w eps_u", 6, 6),))
    training = Section("training", "2.4 Full training", trained, 8, shown=(("output", "epoch 10/10\n"), ("png", png())))
    answer = "**Answer.** Quality rises with ω, and diversity falls: " + "I looked at each row. " * 12
    guidance = Section("guidance", "2.5 Guidance weight", None, 4, shown=(("code", "omegas = [0, 1]"), ("png", png()), ("text", answer)))
    customise = Section("customise", "2.6 Customise", None, 6, shown=(("text", "The notebook has no part 'customise'."),))
    return Record(name, (network, schedule, forward, sample, training, guidance, customise), tuple(notes),
                  ("An unprivileged user, no network, 60 s, 4 GB.",), seconds)  # fmt: skip


def grade(submission, *, name=None):
    """What course.grading.grading.grade is to the class, by what a submission's file "says"; each grading leaves a line in $GRADED.

    What says "held" is graded when $GRADED.hold goes away; "dies", "hangs" and "fills memory" are what the grading then does.
    """
    path = Path(submission)
    says = (path / "says").read_text() if path.is_dir() else "zip"
    with open(os.environ["GRADED"], "a") as log:
        log.write(f"{name}\n")
    with open(os.environ["GRADED"] + ".by", "a") as log:
        log.write(f"{os.getpid()}\n")
    time.sleep(0.05)
    while says == "held" and os.path.exists(os.environ["GRADED"] + ".hold"):
        time.sleep(0.02)
    if says == "dies":
        os._exit(3)
    while says == "hangs":
        time.sleep(1)
    if says == "fills memory":
        bytearray(2**33)
    if says == "broken":
        raise RuntimeError("the grader stumbled")
    return a_record(name, "shifted" in says, "swapped" in says, says=(f"received {EVIL}",) if says == "evil" or "shifted" in says else ())
