"""Stand-ins for the student's classes, which run in the sandbox: every call is sent to a child process there.

The networks and schedules that a check lends run on this side, and all judging is done here.
"""

from checks import student

from course.sandbox.messages import GARBLED, Lost, error_fields, raised


class Channel:
    """Requests to one child of the sandbox, and answers to its own in between. Raises the student's errors, and Lost.

    link: to a fresh child. answers: {name of a request of the child: the function that answers it}.
    """

    def __init__(self, link, **answers):
        self.link, self.answers = link, answers

    def ask(self, do, **fields):
        self.link.send(do=do, **fields)
        while True:
            answer = self.link.receive()
            try:
                if "error" in answer:
                    error = raised(answer["error"])
                elif "ask" not in answer:
                    return answer
                else:
                    self._answer(**answer)
                    continue
            except (KeyError, TypeError, IndexError, ValueError, AttributeError) as garbled:
                raise Lost(GARBLED) from garbled
            raise error

    def value(self, do, **fields):
        """The value of an answer; a list if it has several parts."""
        try:
            return self.ask(do, **fields)["value"]
        except KeyError as garbled:
            raise Lost(GARBLED) from garbled

    def _answer(self, ask, **fields):
        try:
            value = self.answers[ask](**fields)
        except Exception as error:  # sent to the student's code, as an error of a network there would be
            self.link.send(error=error_fields(error))
        else:
            self.link.send(value=value)

    def close(self):
        self.link.close()


class Student(student.Student):
    """connect: returns a Link to a fresh child. load: the arguments of the child's `load`, which imports the class."""

    def __init__(self, connect, **load):
        super().__init__(None)
        self.connect, self.load, self.channel, self.networks = connect, load, None, 0

    def open(self, **answers):
        """A fresh child that has imported the student's module."""
        self.close()
        self.channel, self.networks = Channel(self.connect(), **answers), 0
        self.channel.ask("load", **self.load)
        return self.channel

    def close(self):
        if self.channel:
            self.channel.close()
        self.channel = None

    def process(self, settings, answer=None, right=None, scalar=False, seed=student.SEED):
        channel = self.open(answer=answer, right=right)
        channel.ask("process", settings=settings, lent=right is not None, blind=right is not None and right.blind, scalar=scalar, seed=seed)
        return Process(channel)

    def network(self, *args):
        channel = self.channel or self.open()
        channel.ask("network", args=list(args), seed=student.SEED)
        self.networks += 1
        return Network(channel, self.networks - 1)


class Process:
    """Stands for a checks.lend.Process."""

    def __init__(self, channel):
        self.channel = channel

    def scheduler(self, t_s):
        return parts(self.channel, 2, "scheduler", t_s=t_s)

    def forward(self, images, conditions):
        return parts(self.channel, 3, "forward", images=images, conditions=conditions)

    def sample(self, conditions, omega):
        return parts(self.channel, 2, "sample", conditions=conditions, omega=omega)


class Network:
    """Stands for a checks.lend.Network, the one of this number in its child."""

    def __init__(self, channel, number):
        self.channel, self.number = channel, number

    def __getattr__(self, name):
        return lambda *args, **options: self.channel.value("with_network", number=self.number, name=name, args=list(args), options=options)


def parts(channel, count, do, **fields):
    """The `count` parts of an answer. Raises Lost for another number."""
    value = channel.value(do, **fields)
    if not isinstance(value, list | tuple) or len(value) != count:
        raise Lost(GARBLED)
    return value
