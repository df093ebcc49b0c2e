"""What secrets look like: shapes of tokens, names of settings, values that look random.

Only tables and tests of single texts; what is done about a find is in ``_redact``.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from enum import IntEnum
from functools import cache
from typing import Final, NamedTuple

MASK: Final = "[masked]"

_KEY_LINES: Final = 400  # a private key that never ends is masked for this many lines at most
_MAX_PLACES: Final = 2000
_MAX_NAMES: Final = 4096
_MAX_DEPTH: Final = 64
# Invariant: a longer value after a name that holds secrets is masked, hence passed over once.
_MAX_PLAIN: Final = 500


class _Shape(NamedTuple):
    rule: str
    needles: tuple[str, ...]  # lower case; each match holds one of them
    pattern: str  # group "s" is the secret
    if_random: bool = False  # the form alone is not proof enough


class _Kind(IntEnum):
    """How much a name says about its value."""

    NONE = 0
    WEAK = 1
    STRONG = 2
    ALWAYS = 3
    CUSTOM = 4


class _Source(IntEnum):
    """What a line is part of, and so which of its values are not literal."""

    TEXT = 0
    SHELL = 1  # ``$name`` and ``$(…)`` are no secrets
    CODE = 2  # only literals and comments may be masked


# Invariant: the character before a match is never one that the match could begin with, so a long
# run of such characters is entered once and not once per character.
_SHAPES: Final = (
    _Shape("aws-key", ("akia", "asia"), r"(?<![A-Za-z0-9])(?P<s>A(?:KI|SI)A[A-Z0-9]{16})(?!\w)"),
    _Shape(
        "github-token",
        ("ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_"),
        r"(?<![A-Za-z0-9_])(?P<s>gh[opusr]_[A-Za-z0-9]{20,}|github_pat_[A-Za-z0-9]{16}\w*)",
    ),
    _Shape(
        "gitlab-token",
        ("glpat-", "gldt-", "glrt-"),
        r"(?<![\w-])(?P<s>gl(?:pat|dt|rt)-[\w-]{16,}(?:\.[\w-]{2,})*)",
    ),
    _Shape("huggingface-token", ("hf_",), r"(?<![A-Za-z0-9_])(?P<s>hf_[A-Za-z0-9]{20,})"),
    _Shape("anthropic-key", ("sk-ant-",), r"(?<![\w-])(?P<s>sk-ant-[\w-]{16,})"),
    _Shape("openai-key", ("sk-",), r"(?<![\w-])(?P<s>sk-(?:proj|svcacct|admin|or-v1)-[\w-]{16,})"),
    _Shape("openai-key", ("sk-",), r"(?<![\w-])(?P<s>sk-[\w-]{20,})", if_random=True),
    _Shape("slack-token", ("xox",), r"(?<![\w-])(?P<s>xox[a-z]-[\w-]{10,})"),
    _Shape(
        "google-key",
        ("aiza", "ya29.", "gocspx-"),
        r"(?<![\w-])(?P<s>AIza[\w-]{35}|ya29\.[\w-]{20,}|GOCSPX-[\w-]{20,})",
    ),
    _Shape("jwt", ("eyj",), r"(?<![\w-])(?P<s>eyJ[\w-]{8,}(?:\.[\w-]{8,}){1,4}\.?)"),
    _Shape(
        "stripe-key",
        ("k_live_", "k_test_", "whsec_"),
        r"(?<![A-Za-z0-9_])(?P<s>(?:[prs]k_(?:live|test)|whsec)_[A-Za-z0-9]{16,})",
    ),
    _Shape("npm-token", ("npm_",), r"(?<![A-Za-z0-9_])(?P<s>npm_[A-Za-z0-9]{30,})"),
    _Shape("pypi-token", ("pypi-",), r"(?<![\w-])(?P<s>pypi-[\w-]{40,})"),
    _Shape("wandb-key", ("wandb_v",), r"(?<![\w-])(?P<s>wandb_v\d_[\w-]{30,})"),
    _Shape("sendgrid-key", ("sg.",), r"(?<![\w-])(?P<s>SG\.[\w-]{16,}\.[\w-]{16,})"),
    _Shape("azure-key", ("key=",), r"(?i:account|access)(?i:key)=(?P<s>[A-Za-z0-9+/]{30,}={0,2})"),
    _Shape(
        "webhook",
        ("hooks.slack.com/", "/webhooks/"),
        r"(?:hooks\.slack\.com/services|discord(?:app)?\.com/api/webhooks)/(?P<s>[\w/-]{10,})",
    ),
    _Shape(
        "authorization",
        ("bearer", "basic", "token", "password"),
        r"(?i:\b(?:bearer|basic|token|apikey|password)[ \t]{1,4})(?P<s>[\w.~+/-]{8,500}={0,2})",
        if_random=True,
    ),
)

_BY_NEEDLE: Final = tuple((needle, shape) for shape in _SHAPES for needle in shape.needles)

# The words of names, singular. After the first the value is a secret whatever it looks like;
_ALWAYS: Final = frozenset(["password", "passwd", "passphrase", "passcode", "secret"])
# after these unless it is a path, a placeholder or a plain number;
_STRONG: Final = frozenset(
    (
        "pwd credential cred apikey accesskey secretkey privatekey authtoken accesstoken "
        "clientsecret authorization"
    ).split()
)
_STRONG_PAIRS: Final = frozenset(
    f"{first} {last}"
    for last, firsts in {
        "key": "api access private account signing encryption master shared subscription deploy "
        "ssh wandb openai anthropic comet neptune huggingface aws azure gcp google github stripe",
        "token": "access auth api bearer refresh hub hf huggingface github gh gitlab slack bot "
        "private personal session oauth deploy wandb npm pypi vault user",
        "string": "connection conn",
        "pass": "db database user smtp mail ftp mysql postgres redis root admin proxy login",
        "auth": "basic http proxy",
    }.items()
    for first in firsts.split()
)
# after these only where it looks random,
_WEAK: Final = frozenset(("token key auth oauth bearer jwt cookie signature sig sas pat").split())
# and not with these, which tell that another kind of key is meant.
_OTHER_KEYS: Final = frozenset(
    (
        "primary foreign sort partition public cache lookup index group dict config state metric "
        "data image feature label query value row column map hash join storage object dedup prng "
        "rng jax random sweep seed idempotency commit sha tokenizer"
    ).split()
)
_SINGULAR: Final = _ALWAYS | _STRONG | _WEAK
# The last word of a name that tells something about a secret, and the first of one that asks.
_ABOUT: Final = frozenset(
    (
        "id file path dir directory folder name length len size count type kind policy field "
        "column prompt env var version format enabled required label index num limit per rate "
        "usage"
    ).split()
)
_ASKS: Final = frozenset(
    (
        "no use has is enable disable require requires show hide num max min n allow skip with"
    ).split()
)

_CODE_SUFFIXES: Final = (
    *(".py", ".pyi", ".pyx", ".ipynb", ".json", ".jsonl", ".toml", ".c", ".cc", ".cpp", ".cu"),
    *(".cuh", ".h", ".hpp", ".js", ".jsx", ".mjs", ".ts", ".tsx", ".svelte", ".vue", ".java"),
    *(".kt", ".go", ".rs", ".rb", ".jl", ".r", ".lua", ".scala", ".swift", ".cs", ".php"),
    *(".html", ".css", ".sql", ".proto", ".tf", ".pl", ".pm"),
)
_SHELL_SUFFIXES: Final = (
    *(".sh", ".bash", ".zsh", ".fish", ".slurm", ".sbatch", ".pbs", ".mk", "makefile"),
    *("dockerfile", "containerfile", "justfile"),
)
_PATCH_HEADERS: Final = (
    *("index ", "--- ", "+++ ", "old mode ", "new mode ", "deleted file ", "new file "),
    *("similarity ", "dissimilarity ", "rename ", "copy "),
)

# A name and what separates it from its value; the value is looked at only for the few names that
# matter. In source code a type may stand between the two, or the words of an option parser.
_NAME: Final = r"-{0,2}(?P<name>[A-Za-z_][\w.\-]{0,99})(?![\w.\-])(?:\\?[\"'])?\]?[ \t]{0,4}"
_OPTION: Final = r"--(?P<option>[A-Za-z][\w.\-]{0,99})(?![\w.\-])(?:=|[ \t]{1,4})"
_SEPARATOR: Final = r"(?P<sep>=>|:=|={1,2}|:(?!//|:)|,)[ \t]{0,4}"
_TYPE: Final = r":[ \t]{0,4}[A-Za-z_][\w\[\]. |]{0,60}=(?!=)[ \t]{0,4}"
_DEFAULT: Final = r"(?:type=\w{1,20},[ \t]{0,4})?(?:default=)?"
_HEAD: Final = rf"(?<![\w.\-])(?:{_OPTION}|{_NAME}{_SEPARATOR})"
_CODE_HEAD: Final = rf"(?<![\w.\-])(?:{_OPTION}|{_NAME}(?:{_TYPE}|{_SEPARATOR}{_DEFAULT}))"
_QUOTED: Final = (
    r"(?P<prefix>[rbufRBUF]{0,2})(?:"
    r'"(?P<a>[^"\\\n]*(?:\\.[^"\\\n]*)*)"'
    r"|'(?P<b>[^'\\\n]*(?:\\.[^'\\\n]*)*)'"
    r'|\\"(?P<c>[^"\\\n]*)\\"'
    r"|\\'(?P<d>[^'\\\n]*)\\')"
)
_BARE: Final = r"(?:(?i:bearer|basic|token|apikey)[ \t]{1,4})?(?P<s>[\"']?[^\s\"'`%s]+)"
_WEAK_BARE: Final = r"(?P<s>(?:\d{6,12}:)?[A-Za-z0-9_\-+/.~$%]{1,256}={0,3})"
_USER_INFO: Final = (
    r"(?<=://)(?P<s>[^\s/?#\"'<>`\\]{1,500}"
    r"|[^\s/?#\"'<>:@`\\]{0,200}:(?!\d{1,5}[/?#])[^\s\"'<>@`\\]{1,100})@"
)
_PARAMETER: Final = r"(?<=[?&#;])(?P<name>[^=&#;\s]{1,100})=(?P<s>[^&#;\s]*)"
_KEY: Final = (
    r"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----"
    r"(?P<s>[^-]*(?:-(?!----)[^-]*)*)(?P<end>-----END)?"
)
_KEY_END: Final = r"-----END [A-Z0-9 ]{0,40}PRIVATE KEY"
_KEY_RUN: Final = r"[A-Za-z0-9+/=\\]{16,}"
_KEY_BODY: Final = (
    r"(?P<before>[\s\"'#*>|+,]*)(?P<s>[A-Za-z0-9+/=]{4,}|[A-Z][A-Za-z-]{2,20}: \S.*?)"
    r"(?P<after>(?:\\[nr])*[\s\"',;\\)]*)"
)
_WORD: Final = r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+"
_ORDERLY: Final = (
    r"\d{1,12}|[A-Za-z]?[a-z]+\d{0,4}|[A-Z]+\d{0,4}|\d{1,5}[A-Za-z]{1,3}"
    r"|[a-z]*(?:[A-Z0-9]{1,4}[a-z]{3,})+[A-Z0-9]{0,4}[a-z]{0,2}"
)
_PATH: Final = r"(?:~|\.{1,2})?/[\w./\- ]*|~|[A-Za-z]:\\.*|https?://[^\s?]*"
# What stands for a value instead of being one.
_REFERENCE: Final = (
    r"\$\{.*\}|\$[A-Z_][A-Z0-9_]*|\{.*\}|%\(?\w*\)?[srd]|<[^<>]*>|[*x.\-_]{2,}|\W?|Secret\w*\("
    r"|(?i:none|null|true|false|str|string|optional|unset|basic|bearer) ?"
    rf"|{re.escape(MASK)}(?:[,;&\s].*)?"
)
_PLACEHOLDER: Final = (
    r"(?i:empty|dummy|todo|changeme|required|not[-_ ]?needed|your[-_ ].*|yes|no|auto|test|default)"
    r"|[\d.]+|[A-Z]+(?:_[A-Z]+)+"
)
_COUNT: Final = r"\d{1,3}|\d*\.\d+(?:e[+-]?\d+)?"


def _suspicious(low: str) -> bool:
    """Return False for nearly every line of a training log, in about a microsecond.

    Invariant: True for every text (in lower case) that a rule of this module can change. Spelt
    out, and not a loop over the same words, because that takes three times as long.
    """
    return (
        "key" in low
        or "token" in low
        or "secret" in low
        or "pass" in low
        or "pwd" in low
        or "auth" in low
        or "cred" in low
        or "://" in low
        or ".com/" in low
        or "bearer" in low
        or "basic" in low
        or "cookie" in low
        or "connection" in low
        or "signature" in low
        or "eyj" in low
        or "akia" in low
        or "asia" in low
        or "aiza" in low
        or "ya29." in low
        or "sg." in low
        or ("_" in low and ("wandb_v" in low or _re("_[a-z0-9]{16}").search(low) is not None))
        or (
            "-" in low
            and (
                "sk-" in low
                or "xox" in low
                or "glpat-" in low
                or "gldt-" in low
                or "glrt-" in low
                or "pypi-" in low
                or "gocspx-" in low
            )
        )
    )


_NAME_NEEDLES: Final = (
    *("key", "token", "secret", "pass", "pwd", "auth", "cred", "bearer"),
    *("cookie", "connection", "signature", "://"),
)


@cache
def _re(pattern: str) -> re.Pattern[str]:
    """The compiled pattern; nothing is compiled at import."""
    return re.compile(pattern)


@cache
def _shape_re(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern, re.ASCII)


def _is(pattern: str, text: str) -> bool:
    return _re(pattern).fullmatch(text) is not None


def _words(name: str) -> list[str]:
    """The words of a name in lower case, singular where the tables have them so."""
    words = [word.lower() for word in _re(_WORD).findall(name[-400:])]
    return [word[:-1] if word[:-1] in _SINGULAR else word for word in words]


def _kind_of(words: Sequence[str]) -> _Kind:
    if not words or words[0] in _ASKS:
        return _Kind.NONE
    known = set(words)
    about = words[-1] in _ABOUT
    if known & _ALWAYS:
        return _Kind.ALWAYS if not about or words[-1] == "id" else _Kind.NONE
    if about:
        return _Kind.NONE
    pairs = {" ".join(words[at : at + 2]) for at in range(len(words))}
    if known & _STRONG or pairs & _STRONG_PAIRS:
        return _Kind.STRONG
    return _Kind.WEAK if known & _WEAK and not known & _OTHER_KEYS else _Kind.NONE


def _looks_random(value: str, least: float = 3.0) -> bool:
    """Whether a value has the disorder of a generated secret, and not the order of words.

    Args:
        value: The value.
        least: The entropy in bits per character from which on it counts as disorder.
    """
    if not 16 <= len(value) <= 8192 or "://" in value or _is(_PATH, value):
        return False
    if not _is(r"[A-Za-z0-9_\-+/.~$%:=]+", value):
        return False
    parts = _re(r"[A-Za-z0-9]+").findall(value)
    joined = "".join(parts)
    odd = sum(len(part) for part in parts if not _is(_ORDERLY, part))
    if len(joined) < 16 or 2 * odd < len(joined) or joined.isdigit():
        return False
    if joined.isalpha() and 5 * len(_re("[a-z][A-Z]").findall(joined)) < len(joined):
        return False
    shares = [joined.count(char) / len(joined) for char in set(joined)]
    return -sum(share * math.log2(share) for share in shares) >= least


def _is_reference(value: str) -> bool:
    """Whether this stands for a value instead of being one (``${KEY}``, ``<your key>``, None)."""
    return len(value) <= _MAX_PLAIN and _is(_REFERENCE, value)


def _is_credential(scheme: str, user_info: str) -> bool:
    user, colon, password = user_info.partition(":")
    if colon:
        return not _is_reference(password)
    web = scheme.lower().endswith(("http", "https"))
    return (web and not _is_reference(user)) or _looks_random(user)


def _source_of(name: str) -> _Source:
    name = name.rstrip('"').lower()
    if name.endswith(_CODE_SUFFIXES):
        return _Source.CODE
    return _Source.SHELL if name.endswith(_SHELL_SUFFIXES) else _Source.TEXT


def _quote_after(line: str, start: int, stop: int, quote: str) -> str:
    """The quote (or ``#``) that is open at ``stop`` if ``quote`` is open at ``start``."""
    for match in _re(r"\\.|[\"'`#]").finditer(line, start, stop):
        char = match[0]
        if quote == "#":
            break
        if char == quote:
            quote = ""
        elif not quote and len(char) == 1:
            quote = char
    return quote
