"""From the text of a filter to its tree: a parser by precedence, with a limit to its depth.

Nothing is evaluated here. Operators of one rank make one node with many operands, so that only
parentheses, calls, signs and ``not`` make a tree deep, however long the text is.
"""

from __future__ import annotations

import difflib
from typing import Final, NoReturn

from trackway.backend.index._lexer import FilterError, Token, joined_names, tokenize
from trackway.backend.index._nodes import (
    FIELDS,
    FUNCTIONS,
    Arithmetic,
    Call,
    Compare,
    Field,
    Instant,
    Items,
    Literal,
    Logic,
    Match,
    Negative,
    Node,
    Not,
    dimension_of,
)
from trackway.backend.index._pattern import Pattern, PatternError
from trackway.backend.index._times import parse_duration, parse_moment

__all__ = ["DEPTH_LIMIT", "parse"]

DEPTH_LIMIT: Final = 100

_OR, _AND, _NOT, _COMPARE, _SUM, _PRODUCT, _SIGN, _POWER = range(1, 9)
_RANKS: Final = {
    **dict.fromkeys(("or",), _OR),
    **dict.fromkeys(("and",), _AND),
    **dict.fromkeys(("==", "!=", "<", "<=", ">", ">=", "in", "not", "~", "!~"), _COMPARE),
    **dict.fromkeys(("+", "-"), _SUM),
    **dict.fromkeys(("*", "/", "//", "%"), _PRODUCT),
    **dict.fromkeys(("**",), _POWER),
}
_CONSTANTS: Final = {
    "True": True,
    "true": True,
    "False": False,
    "false": False,
    "None": None,
    "null": None,
}
_WORDS: Final = ("and", "or", "not", "in")
_MAPS: Final = ("config", "summary")
_METHODS: Final = ("contains", "endswith", "lower", "startswith", "upper")


def parse(text: str) -> Node:
    """The tree of an expression.

    Raises:
        FilterError: It is no expression; the error points at the place.
    """
    return _Parser(text).whole()


class _Parser:
    def __init__(self, text: str) -> None:
        self.text = text
        self.tokens = tokenize(text)
        self.place = 0
        self.depth = 0

    # -- words -------------------------------------------------------------------------------------

    @property
    def ahead(self) -> Token:
        return self.tokens[self.place]

    def take(self) -> Token:
        token = self.tokens[self.place]
        self.place += token.kind != "end"
        return token

    def is_ahead(self, *words: str) -> bool:
        return self.ahead.kind in ("operator", "name") and self.ahead.text in words

    def accept(self, *words: str) -> bool:
        if not self.is_ahead(*words):
            return False
        self.take()
        return True

    def since(self, start: int) -> tuple[int, int]:
        """Position and length of what lies between a place and the last word taken."""
        last = self.tokens[self.place - 1]
        return start, last.position + last.length - start

    def fail(self, reason: str, at: Token | Node) -> NoReturn:
        raise FilterError(reason, self.text, at.position, at.length)

    def expect(self, word: str, reason: str) -> None:
        if not self.accept(word):
            self.fail(reason, self.ahead)

    # -- operators ---------------------------------------------------------------------------------

    def whole(self) -> Node:
        if self.ahead.kind == "end":
            self.fail("the filter is empty; write a condition, or leave it out", self.ahead)
        node = self.expression(_OR)
        token = self.ahead
        if token.kind != "end":
            self.fail(self._unexpected(token), token)
        return node

    def _unexpected(self, token: Token) -> str:
        if token.kind in ("number", "text") or token.text in ("(", "not"):
            return "two values in a row; put an operator or 'and' between them"
        if token.kind == "name":
            lower = token.text.lower()
            known = {"is": "write '=='", **{word: f"write {word!r}" for word in _WORDS}}
            advice = known.get(lower, "put an operator or 'and' before it")
            return f"{token.text!r} cannot stand here; {advice}"
        if token.text == "[":
            return "only config and summary have parts in brackets; take it out"
        return f"{token.text!r} cannot stand here; take it out, or complete what is before it"

    def expression(self, lowest: int) -> Node:
        self.depth += 1
        if self.depth > DEPTH_LIMIT:
            self.fail(f"deeper than {DEPTH_LIMIT} levels; take parentheses out", self.ahead)
        node = self.prefix(lowest)
        while (rank := self.rank()) >= lowest:
            node = self.operation(node, rank)
        self.depth -= 1
        return node

    def rank(self) -> int:
        """How tightly the operator ahead binds; 0 if there is none."""
        token = self.ahead
        if token.kind not in ("operator", "name"):
            return 0
        if token.text == "not" and self.tokens[self.place + 1].text != "in":
            return 0
        return _RANKS.get(token.text, 0)

    def prefix(self, lowest: int) -> Node:
        token = self.ahead
        if self.is_ahead("not"):
            if lowest > _NOT:
                self.fail("'not' cannot stand here; put parentheses around 'not …'", token)
            self.take()
            operand = self.expression(_NOT)
            return Not(*self.since(token.position), operand)
        if self.accept("-"):
            return self._negated(token, self.expression(_SIGN))
        if self.accept("+"):
            operand = self.expression(_SIGN)
            return Arithmetic(
                *self.since(token.position),
                Literal(*self.since(token.position), 0),
                (("+", operand),),
            )
        return self.postfix()

    def _negated(self, token: Token, operand: Node) -> Node:
        where = self.since(token.position)
        if isinstance(operand, Literal) and type(operand.value) in (int, float):
            return Literal(*where, -operand.value)
        return Negative(*where, operand)

    def operation(self, first: Node, rank: int) -> Node:
        operators: list[Token] = []
        operands: list[Node] = [first]
        while self.rank() == rank:
            operators.append(self.operator())
            operands.append(self.operand(rank))
            if rank == _POWER:  # it binds to the right: the operand has taken what follows
                break
        where = self.since(first.position)
        words = [token.text for token in operators]
        if rank in (_OR, _AND):
            return Logic(*where, words[0], tuple(operands))
        if rank == _COMPARE:
            return self.comparison(where, operators, operands)
        return Arithmetic(*where, first, tuple(zip(words, operands[1:], strict=True)))

    def operator(self) -> Token:
        token = self.take()
        if token.text != "not":
            return token
        second = self.take()
        length = second.position + second.length - token.position
        return Token("name", "not in", token.position, length)

    def operand(self, rank: int) -> Node:
        """What stands right of an operator."""
        return self.expression(_SIGN if rank == _POWER else rank + 1)

    # -- comparisons -------------------------------------------------------------------------------

    def comparison(
        self, where: tuple[int, int], operators: list[Token], operands: list[Node]
    ) -> Node:
        matching = [token for token in operators if token.text in ("~", "!~")]
        if matching:
            if len(operators) > 1:
                self.fail("'~' cannot be chained; join conditions with 'and'", operators[1])
            found = Match(*where, operands[0], self.pattern(operands[1]))
            return found if matching[0].text == "~" else Not(*where, found)
        typed = [self.typed(operands, number, operators) for number in range(len(operands))]
        words = [token.text for token in operators]
        return Compare(*where, typed[0], tuple(zip(words, typed[1:], strict=True)))

    def pattern(self, node: Node) -> Pattern:
        if not isinstance(node, Literal) or not isinstance(node.value, str):
            self.fail("a pattern is a text in quotes; write it so", node)
        try:
            return Pattern.of(node.value)
        except PatternError as error:
            inside = 2 if self.text[node.position] in "rR" else 1
            place = min(node.position + inside + error.place, node.position + node.length - 1)
            raise FilterError(str(error), self.text, place) from error

    def typed(self, operands: list[Node], number: int, operators: list[Token]) -> Node:
        """The operand; a text as the time or duration it stands for, if compared with such."""
        node = operands[number]
        around = [operands[number - 1]] if number else []
        if number < len(operators) and "in" not in operators[number].text:
            around.append(operands[number + 1])
        for other in around:
            dimension = dimension_of(other)
            if dimension:
                return self.measured(node, dimension)
        return node

    def measured(self, node: Node, dimension: str) -> Node:
        if isinstance(node, Items) and node.items:
            items = tuple(self.measured(item, dimension) for item in node.items)
            return Items(node.position, node.length, items, False, ())
        if not isinstance(node, Literal) or not isinstance(node.value, str):
            return node
        if dimension == "time":
            moment = parse_moment(node.value)
            if moment is None:
                self.fail(
                    "no time; write e.g. '2 days ago', 'today', '2026-11-20' or '2026-11-20 14:30'",
                    node,
                )
            return Instant(node.position, node.length, moment)
        seconds = parse_duration(node.value)
        if seconds is None:
            self.fail("no duration; write e.g. '90s', '2h30m' or '1.5 days'", node)
        return Literal(node.position, node.length, seconds)

    # -- values ------------------------------------------------------------------------------------

    def postfix(self) -> Node:
        start = self.ahead.position
        node = self.atom()
        while self.is_ahead("."):
            self.take()
            name = self.take()
            if name.kind != "name" or not self.is_ahead("("):
                self.fail("only config and summary have parts; take it out", name)
            if name.text not in _METHODS:
                self.fail(f"no such method; there are {', '.join(_METHODS)}", name)
            node = self.call(name, start, [node])
        return node

    def atom(self) -> Node:
        token = self.take()
        if token.kind in ("number", "text"):
            return Literal(token.position, token.length, token.value)
        if token.kind == "name":
            return self.name(token)
        if token.text == "(":
            return self.group(token)
        if token.text == "[":
            return self.listed(token, self.items("]", token))
        if token.kind == "end":
            self.fail("something is missing at the end; write a value here", token)
        self.fail(f"{token.text!r} cannot stand here; write a value before it", token)

    def group(self, token: Token) -> Node:
        """What is in parentheses: a value, or with a comma (or nothing) a list."""
        if self.accept(")"):
            return self.listed(token, [])
        node = self.expression(_OR)
        if self.is_ahead(","):
            self.take()
            return self.listed(token, [node, *self.items(")", token)])
        self.expect(")", "a parenthesis is not closed; write ')' here")
        return node

    def items(self, closing: str, opening: Token) -> list[Node]:
        """The rest of a list, a comma after the last item allowed."""
        found: list[Node] = []
        while not self.accept(closing):
            found.append(self.expression(_OR))
            if not self.accept(","):
                self.expect(closing, f"a list is not closed; write ',' or {closing!r} here")
                break
        return found

    def listed(self, token: Token, items: list[Node]) -> Node:
        values = [item.value for item in items if isinstance(item, (Literal, Items))]
        plain = len(values) == len(items) and all(
            item.plain for item in items if isinstance(item, Items)
        )
        where = self.since(token.position)
        return Items(*where, tuple(items), plain, tuple(values) if plain else ())

    def call(self, name: Token, start: int, arguments: list[Node]) -> Node:
        self.expect("(", f"{name.text} is a function; write '(' here")
        arguments = [*arguments, *self.items(")", name)]
        least, most = FUNCTIONS[name.text]
        if not least <= len(arguments) <= most:
            count = str(least) if least == most else f"{least} to {most}"
            takes = f"{count} argument{'s' * (count != '1')}"
            self.fail(f"{name.text}() takes {takes}; write so many", name)
        return Call(*self.since(start), name.text, tuple(arguments))

    def name(self, token: Token) -> Node:
        if self.is_ahead("("):
            if token.text not in FUNCTIONS:
                near = difflib.get_close_matches(token.text, FUNCTIONS, 1)
                advice = f"did you mean {near[0]}()?" if near else f"there are {_functions()}"
                self.fail(f"there is no function {token.text!r}; {advice}", token)
            return self.call(token, token.position, [])
        if token.text in _CONSTANTS:
            return Literal(token.position, token.length, _CONSTANTS[token.text])
        if token.text in _MAPS:
            return self.path(token)
        if token.text in FIELDS:
            return Field(token.position, token.length, (token.text,))
        self._fail_with_slash(token)
        self.fail(self._unknown(token.text), token)

    def _fail_with_slash(self, token: Token) -> None:
        """Fail if the name is a part of one such as ``val/acc``, written without quotes."""
        low, high = joined_names(self.tokens, self.place - 1)
        start, last = self.tokens[low].position, self.tokens[high]
        space, name = "summary", self.text[start : (end := last.position + last.length)]
        if name.startswith(("config.", "summary.")):
            space, _, name = name.partition(".")
        if "/" in name and not any(part in FIELDS for part in name.split("/")):
            told = f"there is no field {token.text!r}; a name with '/' needs quotes"
            raise FilterError(f'{told}: {space}["{name}"]', self.text, start, end - start)

    def _is_compared(self) -> bool:
        """Whether the name just taken stands where a text might: beside an operator, in a list."""
        before = self.tokens[self.place - 2].text if self.place > 1 else ""
        following = [token.text for token in self.tokens[self.place : self.place + 3]]
        in_tags = following[:2] == ["in", "tags"] or following == ["not", "in", "tags"]
        return in_tags or before in ("==", "!=", "~", "!~", "[", ",")

    def _unknown(self, name: str) -> str:
        if name in FUNCTIONS:
            return f"{name} is a function; write {name}(…)"
        if name.lower() in _WORDS:
            spelling = name.lower()
            return f"{name!r} cannot stand here; write {spelling!r} between or before conditions"
        near = difflib.get_close_matches(name, (*FIELDS, *_MAPS), 1)
        if self._is_compared():
            value = f"{near[0]!r}, or config.{name}" if near else f"config.{name}"
            return f'there is no field {name!r}; a text needs quotes: "{name}"; a value is {value}'
        if near:
            return f"there is no field {name!r}; did you mean {near[0]!r}, or config.{name}?"
        return f'there is no field {name!r}; write config.{name} or summary["{name}"]'

    def path(self, token: Token) -> Node:
        names: list[str] = []
        while self.is_ahead(".", "["):
            following = self.tokens[self.place + 1]
            if names and following.kind == "name" and self._is_call(self.place + 1):
                break
            opened = self.take()
            word = self.take()
            if opened.text == ".":
                if word.kind != "name":
                    self.fail(f'write a name here, or {token.text}["…"] for other names', word)
                names.append(word.text)
            else:
                if word.kind != "text":
                    self.fail(f'write the name in quotes: {token.text}["…"]', word)
                names.append(word.value)
                self.expect("]", "a bracket is not closed; write ']' here")
        if not names:
            self.fail(f"{token.text} has many values; name one, as in {token.text}.loss", token)
        return Field(*self.since(token.position), (token.text, *".".join(names).split(".")))

    def _is_call(self, place: int) -> bool:
        return self.tokens[place].kind == "name" and self.tokens[place + 1].text == "("


def _functions() -> str:
    return ", ".join(sorted(FUNCTIONS))
