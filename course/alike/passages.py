"""The passages of a Python text: its expressions, without names, comments, order of operands and the like. No code is run."""

import ast
import builtins
import hashlib
import warnings
from dataclasses import dataclass, field

MOST_CHARACTERS = 200_000  # of a submission; the course's own two modules have 17,000
SMALLEST = 4  # nodes of an expression that counts as a passage
METHODS = {("ConditionalUnet", "forward"), *(("ConditionalDDPM", name) for name in ("scheduler", "forward", "sample"))}
SWAPPED = {ast.Gt: ast.Lt, ast.GtE: ast.LtE}
LIBRARIES = {"torch", "F", "np", "numpy", "math", "nn", "functional"}  # torch.sqrt(x) and x.sqrt() are one passage


class Unreadable(Exception):
    """A text that cannot be compared; the message says why."""


@dataclass
class Passages:
    """where: {passage: the lines (first, last) of each place, from 1}. size: {passage: nodes}. A passage is a digest, an int.

    methods: {"class.method": its passages} of the methods that are asked for.
    """

    where: dict = field(default_factory=dict)
    size: dict = field(default_factory=dict)
    methods: dict = field(default_factory=dict)


def parsed(text):
    """The syntax tree of a text. Raises Unreadable."""
    if len(text) > MOST_CHARACTERS:
        raise Unreadable(f"has {len(text):,} characters; at most {MOST_CHARACTERS:,} are compared")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # such as for "\d" in a string
            return ast.parse(text)
    except SyntaxError as error:
        raise Unreadable(f"is no Python: {error.msg} in line {error.lineno}") from error
    except (ValueError, RecursionError, MemoryError) as error:
        raise Unreadable(f"cannot be parsed ({type(error).__name__})") from error


def words(text):
    """The names and strings of a text. Those that the handout has are kept in passages; all others are a student's own and are not."""
    found = set()
    for node in ast.walk(parsed(text)):
        found |= {value for key in ("id", "attr", "arg", "name") if isinstance(value := getattr(node, key, None), str)}
        found |= {node.value} if isinstance(node, ast.Constant) and isinstance(node.value, str) else set()
    return found


def passages(text, known=frozenset()):
    """The Passages of a text. known: the words of the handout. Raises Unreadable."""
    tree = parsed(text)
    try:
        found = _Reader(tree, known).found
    except RecursionError:
        raise Unreadable("is nested too deeply to be compared") from None
    for cls in (node for node in tree.body if isinstance(node, ast.ClassDef)):
        for node in (node for node in cls.body if isinstance(node, ast.FunctionDef) and (cls.name, node.name) in METHODS):
            inside = lambda places: any(node.lineno <= first and last <= node.end_lineno for first, last in places)  # noqa: B023
            found.methods[f"{cls.name}.{node.name}"] = frozenset(each for each, places in found.where.items() if inside(places))
    return found


class _Reader:
    """Goes through a tree and notes each expression of at least SMALLEST nodes."""

    def __init__(self, tree, known):
        self.found, self.known = Passages(), known
        imports = [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]
        self.modules = {alias.asname or alias.name: alias.name.split(".")[-1] for node in imports for alias in node.names}
        self.imported = set(self.modules.values())
        self._statements(tree.body)

    def _statements(self, body):
        for statement in body:
            if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant):
                continue  # a docstring
            for name, value in ast.iter_fields(statement):
                if name in ("decorator_list", "annotation", "returns", "type_comment"):
                    continue
                each = value if isinstance(value, list) else [value]
                self._statements([child for child in each if isinstance(child, ast.stmt)])
                for child in each:
                    if isinstance(child, ast.ExceptHandler | ast.match_case):
                        self._statements(child.body)
                    elif isinstance(child, ast.withitem):
                        self._expression(child.context_expr)
                    elif isinstance(child, ast.expr) and not isinstance(statement, ast.AugAssign):
                        self._expression(child)
            if isinstance(statement, ast.AugAssign):  # x += y is x = x + y
                self._expression(ast.copy_location(ast.BinOp(statement.target, statement.op, statement.value), statement))

    def _expression(self, node):
        """(digest, nodes) of an expression, which is noted if it is large enough."""
        label, parts, sort = self._seen(node)
        children = [self._expression(part) for part in parts]
        digests = [digest for digest, _ in children]
        size = 1 + sum(size for _, size in children)
        said = f"{label}({','.join(map(str, sorted(digests) if sort else digests))})"
        digest = int.from_bytes(hashlib.blake2b(said.encode("utf-8", "replace"), digest_size=8).digest(), "big")
        if size >= SMALLEST and hasattr(node, "lineno") and not isinstance(node, ast.Tuple):
            self.found.where.setdefault(digest, []).append((node.lineno, node.end_lineno))
            self.found.size[digest] = size
        return digest, size

    def _seen(self, node):
        """(label, the expressions inside, whether their order means nothing)."""
        kind = type(node).__name__
        match node:
            case ast.Name():
                return self._name(self.modules.get(node.id, node.id)), [], False
            case ast.Constant():
                return self._constant(node.value), [], False
            case ast.Attribute(value=ast.Name(id="self")):
                return f"self.{node.attr if node.attr in self.known else '_'}", [], False
            case ast.Attribute(value=ast.Name(id=name)) if self.modules.get(name, name) in LIBRARIES:
                return f".{node.attr}", [], False
            case ast.Attribute():
                return f".{node.attr}", [node.value], False
            case ast.BinOp(op=ast.Add() | ast.Sub() | ast.Mult()):
                return ("*" if isinstance(node.op, ast.Mult) else "+"), list(self._operands(node, isinstance(node.op, ast.Mult))), True
            case ast.BinOp():
                return type(node.op).__name__, [node.left, node.right], False
            case ast.BoolOp():
                return type(node.op).__name__, node.values, True
            case ast.UnaryOp():
                return type(node.op).__name__, [node.operand], False
            case ast.Compare(ops=[op]):
                both = [node.left, *node.comparators]
                swapped = SWAPPED.get(type(op))
                name = (swapped or type(op)).__name__
                return name, both[::-1] if swapped else both, isinstance(op, ast.Eq | ast.NotEq)
            case ast.Call(func=ast.Attribute(value=ast.Name(id=name), attr=attr)) if self.modules.get(name, name) in LIBRARIES:
                return f"{attr}{self._keywords(node)}", [*node.args, *self._values(node)], False
            case ast.Call(func=ast.Attribute(value=value, attr=attr)) if not (isinstance(value, ast.Name) and value.id == "self"):
                return f"{attr}{self._keywords(node)}", [value, *node.args, *self._values(node)], False
            case ast.Call():
                return f"call{self._keywords(node)}", [node.func, *node.args, *self._values(node)], False
            case ast.Dict():
                return kind, [part for pair in zip(node.keys, node.values) for part in pair if part], False
            case ast.Lambda():
                return kind, [node.body], False
        return kind, self._direct(node), False

    def _direct(self, node):
        """The expressions directly inside of a node, those of a comprehension's `for` too."""
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.expr):
                yield child
            elif isinstance(child, ast.comprehension | ast.keyword):
                yield from self._direct(child)

    def _operands(self, node, product):
        """The terms of a sum, or the factors of a product, in one list however the brackets stand."""
        waiting = [(node, False)]
        while waiting:
            at, negative = waiting.pop()
            if isinstance(at, ast.BinOp) and isinstance(at.op, (ast.Mult,) if product else (ast.Add, ast.Sub)):
                waiting += [(at.right, negative != isinstance(at.op, ast.Sub)), (at.left, negative)]
            elif negative:
                yield ast.UnaryOp(ast.USub(), at)  # without a line: no passage of its own
            else:
                yield at

    def _name(self, name):
        """What stands for a name: itself where it is imported or Python's own, as others are easily changed."""
        return name if name in self.imported or name in LIBRARIES or hasattr(builtins, name) else "_"

    def _constant(self, value):
        if isinstance(value, str | bytes):
            return repr(value) if value in self.known else "text"
        return repr(float(value)) if isinstance(value, int | float) and abs(value) < 1e15 else repr(value)[:100]

    def _keywords(self, call):
        return "".join(sorted(f",{each.arg}" for each in call.keywords))

    def _values(self, call):
        return [each.value for each in sorted(call.keywords, key=lambda each: each.arg or "")]
