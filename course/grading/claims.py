"""Who of several workers grades what: files beside the records, on a file system that all of them share.

A worker claims a submission by making a file that must not be there yet, `<name>.claim-0`, which is atomic, over NFS too. A claim that
is older than any grading can take is lost, its worker dead; then `<name>.claim-1` is made in the same way: of two who see this only one
gets it.
"""

import os
import secrets
import socket

from course.grading import guard
from course.report.safe import file_name
from lab.training.checkpoint import write_text

LOST = 2 * guard.SECONDS  # seconds after which a claim is lost; a grading is ended after guard.SECONDS
MOST = 3  # claims of a submission, after which workers give it up
FAILED = "failed: "


class Claims:
    """The claims in `folder`, that of the records. lost: in seconds, by the clock of the file system."""

    def __init__(self, folder, lost=LOST):
        self.folder, self.lost = folder, lost
        self.me = f"{socket.gethostname()}, process {os.getpid()}, {secrets.token_hex(4)}"
        self.clock = folder / f".clock-{socket.gethostname()}-{os.getpid()}"

    def take(self, name):
        """Whether the submission is this worker's now."""
        taken = self._of(name)
        if taken and not self._over(taken[-1]) or len(taken) >= MOST:
            return False
        try:
            with open(self._path(name, len(taken)), "x") as file:
                file.write(self.me)
            return True
        except FileExistsError:  # another was faster
            return False

    def holds(self, name):
        """Whether the submission is still this worker's, and no other has taken it for lost."""
        return any(self._said(path) == self.me for path in self._of(name)[-1:])

    def fail(self, name, why):
        """Leave a submission that this worker holds to another."""
        write_text(self._of(name)[-1], FAILED + why)

    def drop(self, name):
        """End this worker's claim, and the lost ones before it."""
        if self.holds(name):
            for path in self._of(name):
                path.unlink(missing_ok=True)

    def given_up(self, name):
        """Whether no worker takes the submission any more."""
        taken = self._of(name)
        return len(taken) >= MOST and self._over(taken[-1])

    def why(self, name):
        """Why a submission has no record, in words."""
        taken = self._of(name)
        if not taken:
            return "no worker took it"
        said = self._said(taken[-1])
        return said.removeprefix(FAILED) if said.startswith(FAILED) else f"not finished; the last worker: {said}"

    def _path(self, name, number):
        return self.folder / f"{file_name(name)}.claim-{number}"

    def _of(self, name):
        return [path for path in (self._path(name, number) for number in range(MOST)) if path.exists()]

    def _over(self, path):
        """Whether nobody works on a claim."""
        self.clock.touch()
        now = self.clock.stat().st_mtime
        self.clock.unlink()
        try:
            return now - path.stat().st_mtime > self.lost or self._said(path).startswith(FAILED)
        except FileNotFoundError:
            return False

    def _said(self, path):
        try:
            return path.read_text("utf-8", "replace")
        except FileNotFoundError:  # done, just now
            return ""


def clear(folder):
    """Forget all claims."""
    for path in folder.glob("*.claim-*"):
        path.unlink(missing_ok=True)
