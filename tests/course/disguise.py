"""Disguised copies of a solution, as somebody makes them who hands in another's: each disguise keeps what the code computes.

from disguise import DISGUISES, disguised
disguised(text, "renamed", "turned", seed=3)
"""

import ast
import builtins
import random

WORDS = "valeur donnee resultat bruit pas tampon liste sortie entree reste poids somme tache ligne zone bloc tour etat".split()
FLIPPED = {ast.Lt: ast.Gt, ast.Gt: ast.Lt, ast.LtE: ast.GtE, ast.GtE: ast.LtE}


def disguised(text, *how, seed=0):
    """The text with these of DISGUISES, all by default, in their order. Comments and layout go with any of them."""
    chance, tree = random.Random(seed), ast.parse(text)
    for name in how or DISGUISES:
        tree = DISGUISES[name](tree, chance)
        tree = ast.parse(ast.unparse(ast.fix_missing_locations(tree)))
    return ast.unparse(tree) + "\n"


def _functions(tree):
    """The functions that stand in no other function."""
    for node in tree.body:
        yield from ([node] if isinstance(node, ast.FunctionDef) else [])
        yield from (each for each in getattr(node, "body", []) if isinstance(node, ast.ClassDef) and isinstance(each, ast.FunctionDef))


def _names(node, kind=ast.Load | ast.Store | ast.Del):
    return [each.id for each in ast.walk(node) if isinstance(each, ast.Name) and isinstance(each.ctx, kind)]


def _draws(node):
    """Whether the order of the node among others may matter: it draws random numbers, or may change something."""
    called = {getattr(each.func, "attr", getattr(each.func, "id", "")) for each in ast.walk(node) if isinstance(each, ast.Call)}
    return any(word in name for name in called for word in ("rand", "bernoulli", "normal", "pop", "next", "append", "manual_seed", "_"))


def translated(tree, chance):
    """Docstrings in another language, for comments went already."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node):
            node.body[0] = ast.Expr(ast.Constant(" ".join(chance.choices(WORDS, k=8))))
    return tree


def renamed(tree, chance):
    """Local variables and the student's own helpers under other names."""
    for function in _functions(tree):
        inner = [each for each in ast.walk(function) if isinstance(each, ast.FunctionDef | ast.Lambda)]
        kept = {each.arg for one in inner for each in ast.walk(one.args) if isinstance(each, ast.arg)} | set(dir(builtins))
        kept |= {name for node in ast.walk(function) if isinstance(node, ast.Global | ast.Nonlocal) for name in node.names}
        stored = sorted(set(_names(function, ast.Store)) - kept)
        new = {name: f"{chance.choice(WORDS)}_{i}" for i, name in enumerate(stored)}
        for node in ast.walk(function):
            if isinstance(node, ast.Name):
                node.id = new.get(node.id, node.id)
    return tree


class _Commuted(ast.NodeTransformer):
    def __init__(self, chance):
        self.chance = chance

    def visit_BinOp(self, node):
        self.generic_visit(node)
        ordered = (ast.Tuple, ast.List, ast.JoinedStr, ast.ListComp, ast.Call, ast.Subscript)  # whose sum depends on the order
        sides = (node.left, node.right)
        texts = any(isinstance(each, ast.Constant) and isinstance(each.value, str) for each in sides)
        fits = isinstance(node.op, ast.Mult) or isinstance(node.op, ast.Add) and not any(isinstance(each, ordered) for each in sides)
        if fits and not texts and not any(_draws(each) for each in sides) and self.chance.random() < 0.8:
            node.left, node.right = node.right, node.left
        return node

    def visit_Compare(self, node):
        self.generic_visit(node)
        if len(node.ops) == 1 and type(node.ops[0]) in FLIPPED:
            node.left, node.comparators, node.ops = node.comparators[0], [node.left], [FLIPPED[type(node.ops[0])]()]
        return node


def commuted(tree, chance):
    """Sums, products and comparisons the other way round."""
    return _Commuted(chance).visit(tree)


def _bodies(tree):
    for function in _functions(tree):
        for node in ast.walk(function):
            for name in ("body", "orelse"):
                if isinstance(body := getattr(node, name, None), list):
                    yield function, body


def reordered(tree, chance):
    """Assignments that do not need each other in another order."""
    for _, body in _bodies(tree):
        for i in range(len(body) - 1):
            one, other = body[i], body[i + 1]
            plain = all(isinstance(each, ast.Assign) and all(isinstance(t, ast.Name) for t in each.targets) and not _draws(each)
                        for each in (one, other))  # fmt: skip
            if plain and not set(_names(one, ast.Store)) & set(_names(other)) and not set(_names(other, ast.Store)) & set(_names(one)):
                body[i], body[i + 1] = other, one
    return tree


class _Turned(ast.NodeTransformer):
    def visit_For(self, node):
        self.generic_visit(node)
        call, inside = node.iter, [each for part in node.body for each in ast.walk(part)]
        ranged = isinstance(call, ast.Call) and getattr(call.func, "id", "") == "range" and isinstance(node.target, ast.Name)
        if (
            not ranged
            or node.orelse
            or any(isinstance(each, ast.Continue) for each in inside)
            or node.target.id in _names(ast.Module(node.body, []), ast.Store)
        ):
            return node
        first, last, step = {1: (ast.Constant(0), *call.args, ast.Constant(1)), 2: (*call.args, ast.Constant(1)), 3: (*call.args,)}[
            len(call.args)
        ]
        down = isinstance(step, ast.UnaryOp)
        if not isinstance(step, ast.Constant) and not (down and isinstance(step.operand, ast.Constant)):
            return node
        test = ast.Compare(ast.Name(node.target.id, ast.Load()), [ast.Gt() if down else ast.Lt()], [last])
        count = ast.AugAssign(ast.Name(node.target.id, ast.Store()), ast.Add(), step)
        return [ast.Assign([node.target], first), ast.While(test, [*node.body, count], [])]


def turned(tree, chance):
    """`for` over a range as `while`."""
    return ast.fix_missing_locations(_Turned().visit(tree))


def inlined(tree, chance):
    """A variable that is used once, in the next statement, is not there any more."""
    for function, body in list(_bodies(tree)):
        names = _names(function)
        for i in reversed(range(len(body) - 1)):
            one, following = body[i], body[i + 1]
            target = one.targets[0] if isinstance(one, ast.Assign) and len(one.targets) == 1 else None
            plain = isinstance(target, ast.Name) and isinstance(following, ast.Assign | ast.Return | ast.Expr)
            if plain and names.count(target.id) == 2 and _names(following, ast.Load).count(target.id) == 1 and not _draws(one):
                if not any(isinstance(each, ast.Lambda | ast.comprehension) for each in ast.walk(following)):
                    body[i + 1] = _Put(target.id, one.value).visit(following)
                    del body[i]
    return tree


class _Put(ast.NodeTransformer):
    def __init__(self, name, value):
        self.name, self.value = name, value

    def visit_Name(self, node):
        return self.value if node.id == self.name else node


def extracted(tree, chance):
    """Some right-hand sides as functions of their own."""
    made, taken = [], {name for name in _names(tree)} | {each.arg for each in ast.walk(tree) if isinstance(each, ast.arg)}
    for function in _functions(tree):
        local = set(_names(function, ast.Store)) | {each.arg for each in ast.walk(function.args) if isinstance(each, ast.arg)}
        for node in [each for each in ast.walk(function) if isinstance(each, ast.Assign)]:
            hard = ast.Lambda | ast.comprehension | ast.NamedExpr | ast.Await | ast.Yield
            deep = any(isinstance(each, ast.FunctionDef) and each is not function and node in ast.walk(each) for each in ast.walk(function))
            large = sum(isinstance(each, ast.expr) for each in ast.walk(node.value)) >= 8
            if large and not deep and not any(isinstance(each, hard) for each in ast.walk(node.value)) and chance.random() < 0.5:
                name, needed = f"etape_{len(made)}", sorted(set(_names(node.value)) & local)
                assert name not in taken
                arguments = ast.arguments([], [ast.arg(each) for each in needed], None, [], [], None, [])
                made.append(ast.FunctionDef(name, arguments, [ast.Return(node.value)], [], lineno=1))
                node.value = ast.Call(ast.Name(name, ast.Load()), [ast.Name(each, ast.Load()) for each in needed], [])
    tree.body += made
    return tree


class _Rooted(ast.NodeTransformer):
    def visit_Call(self, node):
        self.generic_visit(node)
        if isinstance(node.func, ast.Attribute) and node.func.attr == "sqrt" and not node.keywords:
            value = node.args[0] if node.args else node.func.value
            return ast.BinOp(value, ast.Pow(), ast.Constant(0.5))
        return node


def rooted(tree, chance):
    """Roots as powers."""
    return _Rooted().visit(tree)


def split(tree, chance):
    """A part of a sum, product or call as a variable of its own."""
    count = 0
    for _, body in list(_bodies(tree)):
        for i in reversed(range(len(body))):
            value = body[i].value if isinstance(body[i], ast.Assign) else None
            part = value.left if isinstance(value, ast.BinOp) else value.args[0] if isinstance(value, ast.Call) and value.args else None
            if part is not None and not isinstance(part, ast.Name | ast.Constant | ast.Starred | ast.GeneratorExp) and not _draws(value):
                name, count = f"morceau_{count}", count + 1
                body[i : i + 1] = [ast.Assign([ast.Name(name, ast.Store())], part), body[i]]
                if isinstance(value, ast.BinOp):
                    value.left = ast.Name(name, ast.Load())
                else:
                    value.args[0] = ast.Name(name, ast.Load())
    return tree


def padded(tree, chance):
    """Code that does nothing."""
    for i, function in enumerate(_functions(tree)):
        more = ast.parse(
            f"inutile_{i} = [k * 3 + {i} for k in range(4)]\nif len(inutile_{i}) > 9:\n    raise ValueError(str(inutile_{i}))"
        ).body
        first = 1 if ast.get_docstring(function) else 0
        function.body[first:first] = more
    return tree


DISGUISES = {each.__name__: each for each in (translated, commuted, reordered, turned, inlined, split, rooted, extracted, padded, renamed)}
