"""The predicates of channel files: ``message.type in ['ORU^R01'] and message['PV1-2'] != 'I'``.

A small, safe part of Python's expression syntax, compiled once into closures; nothing is evaluated, nothing can be called but
what is named here, and nothing raises at run time.

    message.type           a header fact: see FACTS; what the message does not have is ""
    message['PID-3.1']     the text at a path of the message's own format, "" where there is none
    == != in not in and or not, lists of texts, x.startswith('…'), x.endswith('…'), x.lower(), x.upper()
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, Final, Protocol

FACTS: Final = {
    "type": "message type, such as ADT^A01",
    "control_id": "the message's own identifier (MSH-10)",
    "sender": "application and facility, as APP|FACILITY (MSH-3, MSH-4)",
    "peer": "the party that the connection has proven",
    "remote": "address of the sender, as host:port",
    "patient_id": "first patient identifier",
    "content_type": "media type of the content",
}
_METHODS: Final[dict[str, Callable[..., Any]]] = {
    "startswith": str.startswith,
    "endswith": str.endswith,
    "lower": str.lower,
    "upper": str.upper,
}
_MOST: Final = 2000


class Subject(Protocol):
    """What a predicate asks: a message on its way."""

    def fact(self, name: str) -> str: ...

    def text(self, path: str) -> str: ...


Closure = Callable[[Subject], Any]


@dataclass(frozen=True, slots=True)
class Predicate:
    """A compiled expression. `paths` are the content paths it reads; without any it needs the header only."""

    source: str
    holds: Callable[[Subject], bool]
    paths: tuple[str, ...]


class ExpressionError(ValueError):
    """The expression cannot be used; `nearest` is a name that may have been meant."""

    def __init__(self, text: str, nearest: str = "") -> None:
        super().__init__(text)
        self.nearest = nearest


def compile_predicate(source: str) -> Predicate:
    """Raises ExpressionError saying what is wrong and where."""
    if len(source) > _MOST:
        raise ExpressionError(f"longer than {_MOST} characters")
    try:
        tree = ast.parse(source.strip(), mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        column = getattr(error, "offset", None)
        raise ExpressionError(f"not an expression{f', at character {column}' if column else ''}: {source!r}") from None
    compiler = _Compiler()
    value = compiler.compile(tree.body)
    return Predicate(source, lambda subject: bool(value(subject)), tuple(compiler.paths))


class _Compiler:
    def __init__(self) -> None:
        self.paths: list[str] = []

    def compile(self, node: ast.expr) -> Closure:
        method = getattr(self, f"_{type(node).__name__.lower()}", None)
        if method is None:
            raise ExpressionError(f"{ast.unparse(node)!r} is not allowed in an expression")
        closure: Closure = method(node)
        return closure

    def _constant(self, node: ast.Constant) -> Closure:
        if not isinstance(node.value, str | bool):
            raise ExpressionError(f"{node.value!r}: only texts can be compared; write it in quotes")
        value = node.value
        return lambda _: value

    def _list(self, node: ast.List) -> Closure:
        items = [element.value for element in node.elts if isinstance(element, ast.Constant) and isinstance(element.value, str)]
        if len(items) != len(node.elts):
            raise ExpressionError(f"{ast.unparse(node)!r}: a list may hold texts only")
        found = frozenset(items)
        return lambda _: found

    _tuple = _set = _list

    def _attribute(self, node: ast.Attribute) -> Closure:
        self._expect_message(node.value)
        name = node.attr
        if name not in FACTS:
            nearest = get_close_matches(name, FACTS, 1)
            raise ExpressionError(f"message has no fact {name!r}; known: {', '.join(FACTS)}", nearest[0] if nearest else "")
        return lambda subject: subject.fact(name)

    def _subscript(self, node: ast.Subscript) -> Closure:
        self._expect_message(node.value)
        if not isinstance(node.slice, ast.Constant) or not isinstance(node.slice.value, str):
            raise ExpressionError("a path is a text, such as message['PID-3.1']")
        path = node.slice.value
        self.paths.append(path)
        return lambda subject: subject.text(path)

    @staticmethod
    def _expect_message(node: ast.expr) -> None:
        if not isinstance(node, ast.Name) or node.id != "message":
            raise ExpressionError(f"{ast.unparse(node)!r}: everything begins with message", "message")

    def _boolop(self, node: ast.BoolOp) -> Closure:
        parts = [self.compile(value) for value in node.values]
        if isinstance(node.op, ast.And):
            return lambda subject: all(part(subject) for part in parts)
        return lambda subject: any(part(subject) for part in parts)

    def _unaryop(self, node: ast.UnaryOp) -> Closure:
        if not isinstance(node.op, ast.Not):
            raise ExpressionError(f"{ast.unparse(node)!r} is not allowed in an expression")
        part = self.compile(node.operand)
        return lambda subject: not part(subject)

    def _compare(self, node: ast.Compare) -> Closure:
        if len(node.ops) != 1:
            raise ExpressionError("one comparison at a time; join them with and")
        left, right = self.compile(node.left), self.compile(node.comparators[0])
        operator = type(node.ops[0])
        if operator is ast.Eq:
            return lambda subject: left(subject) == right(subject)
        if operator is ast.NotEq:
            return lambda subject: left(subject) != right(subject)
        if operator is ast.In:
            return lambda subject: left(subject) in right(subject)
        if operator is ast.NotIn:
            return lambda subject: left(subject) not in right(subject)
        raise ExpressionError("compare with ==, !=, in or not in")

    def _call(self, node: ast.Call) -> Closure:
        if not isinstance(node.func, ast.Attribute) or node.func.attr not in _METHODS or node.keywords:
            raise ExpressionError(f"{ast.unparse(node)!r}: only {', '.join(_METHODS)} can be called on a text")
        method, value = _METHODS[node.func.attr], self.compile(node.func.value)
        arguments = [argument.value for argument in node.args if isinstance(argument, ast.Constant) and isinstance(argument.value, str)]
        wanted = 1 if node.func.attr in ("startswith", "endswith") else 0
        if len(arguments) != len(node.args) or len(arguments) != wanted:
            raise ExpressionError(f"{node.func.attr} takes {'one text' if wanted else 'nothing'}")
        return lambda subject: method(str(value(subject)), *arguments)


def all_hold(predicates: Sequence[Predicate], subject: Subject) -> bool:
    """Whether every one holds; none is fine."""
    return all(predicate.holds(subject) for predicate in predicates)
