"""explorations/few_calls.py: what is judged and how often, the worst digits, the time, a training that resumes."""

import csv

import matplotlib.pyplot as plt
import pytest
import torch

import few_calls
from config import DMConfig
from DDPM import ConditionalDDPM
from lab import quality, samplers
from lab.diffusion.few import FewSteps
from lab.quality import judge
from lab.training import checkpoint

SMALL = DMConfig(T=20, beta_T=0.4, num_feat=8, omega=0.5, precision="float32")


@pytest.fixture(scope="module")
def student():
    torch.manual_seed(0)
    return FewSteps(ConditionalDDPM(SMALL).eval())


@pytest.fixture
def judged(monkeypatch):
    """quality.sweep without a judge; what it was asked."""
    asked = []

    def sweep(model, omegas, methods, steps, seeds, count, path, reporter):
        asked.append((omegas, methods, steps, seeds, count, path.name))
        row = {"frechet": 3.0, "frechet_floor": 1.5, "recall": 0.5, "spread": 1.0}
        return [{"steps": number, "seed": seed, "accuracy": 0.9 + seed / 100, **row} for number in steps for seed in range(seeds)]

    monkeypatch.setattr(quality, "sweep", sweep)
    return asked


def test_students_are_judged_by_each_number_of_calls_and_the_teacher_by_its_own(student, judged, tmp_path):
    rows = few_calls.judged({"teacher": ConditionalDDPM(SMALL).eval(), "drifting": student}, 2, 300, tmp_path / "rows")
    assert judged == [([0.5], ["sde"], [9], 1, 300, "teacher.csv"), ([0.5], ["few"], [1, 2, 4], 2, 300, "drifting.csv")]
    assert [(row["name"], row["calls"], row["seed"]) for row in rows] == [
        ("teacher", 19, 0), *(("drifting", calls, seed) for calls in (1, 2, 4) for seed in (0, 1))
    ]  # fmt: skip
    table = few_calls.table(rows)
    assert [(line["network"], line["calls"]) for line in table] == [("teacher", 19), ("drifting", 1), ("drifting", 2), ("drifting", 4)]
    assert table[0]["read as asked for"] == "90.00%" and table[1]["read as asked for"] == "90.50% (90.00% to 91.00%)"
    assert table[0]["Fréchet distance, in floors"] == "2.00"
    figure = few_calls.curves(rows, "title")
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels == ["teacher, 19 calls", "drifting"]
    plt.close(figure)


def test_what_is_judged_is_not_judged_again(student, judged, tmp_path):
    """Unless it was cut short, or is asked for with another number of digits."""
    rows = few_calls.judged({"drifting": student}, 2, 300, tmp_path)
    keep = lambda rows: checkpoint.write_rows(tmp_path / "drifting.csv", [{**row, "samples": 300, "method": "few"} for row in rows])
    keep({key: row[key] for key in row if key not in ("name", "calls")} for row in rows)
    again = few_calls.judged({"drifting": student}, 2, 300, tmp_path)
    assert len(judged) == 1 and few_calls.table(again) == few_calls.table(rows)
    few_calls.judged({"drifting": student}, 2, 200, tmp_path)
    keep({key: row[key] for key in row if key not in ("name", "calls")} for row in rows[:-1])
    few_calls.judged({"drifting": student}, 2, 300, tmp_path)
    assert len(judged) == 3


def test_the_worst_are_those_that_the_judge_doubts_most(student, monkeypatch):
    """A judge that reads a 7 in everything, and is the surer the more of its features are on."""

    class Reader:
        @staticmethod
        def classify(features):
            return torch.cat([torch.zeros(len(features), 7), features, torch.zeros(len(features), 2)], dim=1)

    labels = torch.tensor([7, 7, 3, 7, 7])
    features = torch.tensor([[3.0], [1.0], [2.0], [5.0], [4.0]])
    monkeypatch.setattr(quality, "proportional_labels", lambda count: labels)
    monkeypatch.setattr(judge, "load", lambda: Reader)
    drawn = []

    def read(reader, images):
        drawn.append(images)
        return torch.full((5,), 7), features

    monkeypatch.setattr(judge, "read", read)
    images, found = few_calls.worst(student, 2, 5, most=3, seed=4)
    assert found == [(3, 7), (7, 7), (7, 7)]
    expected = samplers.sample(student, labels, 0.5, steps=2, generator=torch.Generator().manual_seed(4))
    torch.testing.assert_close(drawn[0], expected)
    torch.testing.assert_close(images, expected[[2, 1, 0]])


def test_the_first_round_is_not_counted_and_the_precision_is_as_asked_for(student, monkeypatch):
    asked = []
    monkeypatch.setattr(
        samplers, "sample", lambda model, labels, omega, **how: asked.append((model.dmconfig.precision, labels.tolist(), how))
    )
    assert len(few_calls.seconds(student, 12, 3, 0.5, precision="bfloat16", steps=1)) == 3
    assert asked == [("bfloat16", [*range(10), 0, 1], {"steps": 1})] * 4
    assert student.dmconfig.precision == "float32"


def test_a_student_is_trained_once(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    teacher = ConditionalDDPM(SMALL).eval()
    train = lambda: few_calls.trained(teacher, "consistency", "student", 64, epochs=1, batch_size=32)
    first, minutes = train()
    again, same = train()
    assert isinstance(first, FewSteps) and minutes == same > 0
    for one, other in zip(first.state_dict().values(), again.state_dict().values()):
        torch.testing.assert_close(one, other, rtol=0, atol=0)
    with open(tmp_path / "save" / "student" / "log.csv", newline="") as file:
        assert len(list(csv.DictReader(file))) == 1
