"""The redaction filter: secrets go, everything else stays as it is."""

from __future__ import annotations

import ast
import subprocess
import sys
import sysconfig
import time
from pathlib import Path

import pytest

import trackway
from trackway.core._redact import Masked, Redactor
from trackway.errors import ArgumentError

RANDOM_16 = "q7Zt2LxV9bKd4WmR"
HEX_40 = "0f9e8d7c6b5a49382716f5e4d3c2b1a098765432"

# (text, what must remain of it)
SECRETS = [
    ("id AKIAIOSFODNN7EXAMPLE here", "id [masked] here"),
    ("aws_secret_access_key = wJalrXUtnFEMI/K7MDENG/bPx", "aws_secret_access_key = [masked]"),
    ('"SecretAccessKey": "wJalrXUtnFEMI/K7MDENG"', '"SecretAccessKey": "[masked]"'),
    ("ghp_" + "aB3x" * 9, "[masked]"),
    ("ghs_" + "aB3x" * 9, "[masked]"),
    ("github_pat_11ABCDEFG0aBcDeFgHiJ_" + "kL9m" * 14, "[masked]"),
    ("glpat-aBcDeFgHiJ1234567890", "[masked]"),
    ("hub: hf_" + "aBcDe" * 7, "hub: [masked]"),
    ("sk-" + "aB3d" * 12, "[masked]"),
    ("sk-proj-" + "aB3_-" * 10, "[masked]"),
    ("sk-ant-api03-" + "aB3_-" * 18, "[masked]"),
    ("xoxb-123456789012-abcdefABCDEF", "[masked]"),
    ("AIzaSyD-9tSrke72PouQMnMX-a7eZSW0jkFMBWY", "[masked]"),
    ("jwt eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I", "jwt [masked]"),
    ("sk_live_" + "a1B2" * 6, "[masked]"),
    ("npm_" + "aB3x" * 9, "[masked]"),
    ("pypi-AgEIcHlwaS5vcmc" + "aB3_" * 12, "[masked]"),
    ("SG." + "a1B2c" * 4 + "." + "c3D4e" * 8, "[masked]"),
    ("wandb_v1_" + "a1B2c" * 15, "[masked]"),
    (
        "AccountName=x;AccountKey=" + "aB3+" * 20 + "ab==;E=f",
        "AccountName=x;AccountKey=[masked];E=f",
    ),
    (
        "https://hooks.slack.com/services/T00/B00/abcdef",
        "https://hooks.slack.com/services/[masked]",
    ),
    ("Authorization: Bearer abc123", "Authorization: Bearer [masked]"),
    (f'-H "Authorization: Basic {RANDOM_16}=="', '-H "Authorization: Basic [masked]"'),
    (f"using bearer {RANDOM_16} now", "using bearer [masked] now"),
    (f"WANDB_API_KEY={HEX_40}", "WANDB_API_KEY=[masked]"),
    (f"wandb_key: {HEX_40}", "wandb_key: [masked]"),
    (f"login user password {HEX_40}", "login user password [masked]"),
    ("postgres://bob:hunter2@db:5432/x", "postgres://[masked]@db:5432/x"),
    ("https://user:p@ss@host/x", "https://[masked]@host/x"),
    ("https://user:pa/ss@host/x", "https://[masked]@host/x"),
    ("redis://:hunter2@cache", "redis://[masked]@cache"),
    ("https://t0k3n@example.com/a", "https://[masked]@example.com/a"),
    ("https://a:b@one/x,https://c:d@two", "https://[masked]@one/x,https://[masked]@two"),
    (f"https://h/x?token={RANDOM_16}&page=1", "https://h/x?token=[masked]&page=1"),
    ("https://h/x?password=ab&page=1", "https://h/x?password=[masked]&page=1"),
    ("password: hunter2", "password: [masked]"),
    ("password: correct horse battery", "password: [masked]"),
    ('passwd="hun ter2"', 'passwd="[masked]"'),
    ('passwd="hun \\"ter2" x', 'passwd="[masked]" x'),
    ('{"password": "hunter2", "a": 1}', '{"password": "[masked]", "a": 1}'),
    ('{\\"password\\": \\"hunter2\\"}', '{\\"password\\": \\"[masked]\\"}'),
    ("export DB_PASSWORD=hunter2", "export DB_PASSWORD=[masked]"),
    ("login(password=hunter2, user=x)", "login(password=[masked], user=x)"),
    ("--password hunter2 --lr 3", "--password [masked] --lr 3"),
    ("--api-key=hunter2", "--api-key=[masked]"),
    ("['t.py', '--password', 'hunter2']", "['t.py', '--password', '[masked]']"),
    ('connection_string="Server=x;Uid=y"', 'connection_string="[masked]"'),
    ("client_secret=abc", "client_secret=[masked]"),
    ("passphrase: abc", "passphrase: [masked]"),
    ("Args(api_key='hunter2', lr=1)", "Args(api_key='[masked]', lr=1)"),
    (f"auth: {RANDOM_16}", "auth: [masked]"),
    ("token: 123456789:AAFq7Zt2LxV9bKd4WmR5", "token: [masked]"),
]

HARMLESS = [
    'tokenizer: "bert-base-uncased"',
    "max_tokens: 512",
    'pad_token: "[PAD]"',
    'eos_token: "</s>"',
    'bos_token: "<|begin_of_text|>"',
    "token_type: char",
    'key: "train/loss"',
    "key: meta-llama/Llama-3.1-8B-Instruct-GGUF-Q4_K_M",
    "key: checkpoint-epoch12-step3400",
    "monkey=banana",
    f"commit {HEX_40}",
    "sha256: e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "author: Jane Doe",
    "keyboard: qwerty",
    "primary_key: id",
    f"cache_key: {HEX_40}",
    "/home/x/tokens/data.bin",
    "tokens/s 1234.5",
    "1.2M tokens: 35%|###   | 3/9 [00:12<00:15, 36.5it/s]",
    "forward pass: 0.3",
    "passed: 12, bypass: on, compass: north",
    "use_auth_token=True",
    "api_key: None",
    "api_key=${WANDB_API_KEY}",
    "api_key_env: WANDB_API_KEY",
    "secret_name: db",
    "credentials: /run/secrets/db.json",
    "password: ",
    "password=********",
    "num_passwords: 3",
    "Basic configuration complete",
    "bearer authentication required",
    "sk-learn-baseline-classifier-model",
    "task-0123456789abcdefghijklm",
    "git@github.com:a/b.git",
    "ssh://git@github.com/a/b",
    "https://github.com/a/b?x=1",
    "http://localhost:8080/user@x",
    "https://medium.com/@user/key",
    "model.decoder.key_proj.weight: torch.Size([512, 512])",
    "Setting `pad_token_id` to `eos_token_id`:50256 for open-end generation.",
]

KEY = """-----BEGIN RSA PRIVATE KEY-----
Proc-Type: 4,ENCRYPTED

MIIEowIBAAKCAQEAq7Zt2LxV9bKd4WmR0f9e8d7c6b5a49382716f5e4d3c2b1a0
abcd
-----END RSA PRIVATE KEY-----"""


@pytest.mark.parametrize(("text", "kept"), SECRETS)
def test_secret_is_masked(text: str, kept: str) -> None:
    """A secret in a line is masked, exactly it, and masking again changes nothing."""
    redactor = Redactor()
    assert redactor.text(text, "console") == kept
    assert [item.where for item in redactor.masked()] == ["console"]
    assert redactor.text(kept, "again") == kept
    assert len(redactor.masked()) == 1


@pytest.mark.parametrize("text", HARMLESS)
def test_harmless_text_stays(text: str) -> None:
    """A line that only resembles a secret is returned as the same object."""
    redactor = Redactor()
    assert redactor.text(text, "console") is text
    assert redactor.masked() == []


def test_private_key_keeps_its_lines() -> None:
    """A private key is masked line by line; markers, empty lines and what follows stay."""
    redactor = Redactor()
    assert redactor.text(f"a\n{KEY}\nstep 1", "file") == (
        "a\n-----BEGIN RSA PRIVATE KEY-----\n[masked]\n\n[masked]\n[masked]\n"
        "-----END RSA PRIVATE KEY-----\nstep 1"
    )
    assert redactor.masked() == [Masked("file", "private-key", 1)]


def test_private_key_printed_line_by_line() -> None:
    """A private key that comes in several calls is masked, in its own place only."""
    redactor = Redactor()
    begin, *body, end = KEY.split("\n")
    assert redactor.text(begin, "out") == begin
    assert redactor.text("plainword", "err") == "plainword"
    assert [redactor.text(line, "out") for line in body] == ["[masked]", "", "[masked]", "[masked]"]
    assert redactor.text(end, "out") == end
    assert redactor.text("plainword", "out") == "plainword"


def test_private_key_that_never_ends() -> None:
    """A line that cannot belong to a key ends it, so the log behind it is not lost."""
    redactor = Redactor()
    redactor.text("-----BEGIN PRIVATE KEY-----", "out")
    assert redactor.text("epoch 3 loss 0.123", "out") == "epoch 3 loss 0.123"
    assert redactor.text("abcdefgh", "out") == "abcdefgh"


def test_private_key_in_one_line() -> None:
    """The escaped form of a key in JSON is masked too."""
    text = 'note: "-----BEGIN PRIVATE KEY-----\\nMIIEvQIBADANBgkqh\\n-----END PRIVATE KEY-----"'
    assert Redactor().text(text, "x") == (
        'note: "-----BEGIN PRIVATE KEY-----[masked]-----END PRIVATE KEY-----"'
    )


def test_values_by_name() -> None:
    """Configuration values are masked by the words of their full name, at any depth."""
    config = {
        "lr": 1e-3,
        "max_tokens": 512,
        "pad_token": "[PAD]",
        "tokenizer": "bert-base-uncased",
        "password": "hunter2",
        "hubToken": "mine",
        "db": {"user": "bob", "passwd": ["a", 3, None]},
        "secrets": {"wandb": "x1", "port": 80},
        "key": ("train/loss", RANDOM_16),
        "url": "https://u:p@h/x",
    }
    redactor = Redactor()
    assert redactor.value("", config, "config") == {
        "lr": 1e-3,
        "max_tokens": 512,
        "pad_token": "[PAD]",
        "tokenizer": "bert-base-uncased",
        "password": "[masked]",
        "hubToken": "[masked]",
        "db": {"user": "bob", "passwd": ["[masked]", 3, None]},
        "secrets": {"wandb": "[masked]", "port": 80},
        "key": ("train/loss", "[masked]"),
        "url": "https://[masked]@h/x",
    }
    assert redactor.masked() == [
        Masked("config.password", "secret-name", 1),
        Masked("config.hubToken", "secret-name", 1),
        Masked("config.db.passwd", "secret-name", 1),
        Masked("config.secrets.wandb", "secret-name", 1),
        Masked("config.key", "random-value", 1),
        Masked("config.url", "url-credentials", 1),
    ]
    assert config["password"] == "hunter2"


def test_value_without_secret_is_the_same_object() -> None:
    """What holds no secret is not copied, whatever its type."""
    redactor = Redactor()
    for value in (
        {"a": [1, ("b", {"c"})]},
        [],
        "plain",
        3,
        None,
        True,
        object(),
        b"raw",
        Path("x"),
    ):
        assert redactor.value("name", value, "config") is value


def test_values_that_are_no_strings_stay() -> None:
    """Numbers, booleans and None are kept even under the name of a secret; bytes are not."""
    redactor = Redactor()
    assert redactor.value("password", 1234, "config") == 1234
    assert redactor.value("use_secret", False, "config") is False
    assert redactor.value("api_key", None, "config") is None
    assert redactor.value("password", b"hunter2", "config") == "[masked]"


def test_secret_in_a_dictionary_key_and_in_a_cycle() -> None:
    """A credential used as a key is masked, and a container that holds itself ends."""
    redactor = Redactor()
    assert redactor.value("", {"ghp_" + "aB3x" * 9: 1}, "config") == {"[masked]": 1}
    cycle: list[object] = []
    cycle.append(cycle)
    assert "[masked]" in str(redactor.value("x", cycle, "config"))


@pytest.mark.parametrize(
    "name",
    "password DB_PASSWORD db.passwd pwd client_secret clientSecret privateKey CREDENTIALS "
    "ssh-passphrase connection_string openai_api_key OPENAI_API_KEY APIKey access_token "
    "HF_TOKEN hubToken smtp_pass vault_secret_id passwords".split(),
)
def test_names_that_hold_secrets(name: str) -> None:
    """Each spelling of a name that holds a secret masks even a short word."""
    assert Redactor().value(name, "hunter2", "config") == "[masked]"


@pytest.mark.parametrize(
    "name",
    "tokenizer token_type max_tokens pad_token author keyboard monkey primary_key password_file "
    "secret_name api_key_env use_auth_token key_id token_path num_secrets forward_pass".split(),
)
def test_names_that_hold_none(name: str) -> None:
    """Names that only resemble those of secrets mask nothing."""
    assert Redactor().value(name, "hunter2", "config") == "hunter2"


ARGV = [
    ("--api-key X", "--api-key [masked]"),
    ("--api-key=X", "--api-key=[masked]"),
    (f"--token {RANDOM_16}", "--token [masked]"),
    ("--token char", "--token char"),
    ("-p 8080", "-p 8080"),
    (f"-p {RANDOM_16}", "-p [masked]"),
    ("password=abc lr=3", "password=[masked] lr=3"),
    ("+trainer.api_key=q model.lr=3", "+trainer.api_key=[masked] model.lr=3"),
    ("api_key='abc'", "api_key=[masked]"),
    ("--max-tokens 512 --pad_token [PAD]", "--max-tokens 512 --pad_token [PAD]"),
    ("--tokenizer bert-base", "--tokenizer bert-base"),
    ("https://u:p@h/x --out=https://u:p@h/x", "https://[masked]@h/x --out=https://[masked]@h/x"),
    ("--password --verbose x", "--password --verbose x"),
    ('--config {"password":"abc"}', '--config {"password":"[masked]"}'),
]


@pytest.mark.parametrize(("line", "kept"), ARGV)
def test_argv(line: str, kept: str) -> None:
    """Options with their value beside or behind them, hydra pairs and addresses are masked."""
    redactor = Redactor()
    assert redactor.argv(["train.py", *line.split()]) == ["train.py", *kept.split()]
    assert {item.where for item in redactor.masked()} <= {"argv"}


@pytest.mark.parametrize(
    ("url", "kept"),
    [
        ("https://bob:hunter2@example.com/a.git", "https://example.com/a.git"),
        ("https://t0k3n@example.com/a.git", "https://example.com/a.git"),
        ("https://bob:hun/ter2@example.com:8443/a", "https://example.com:8443/a"),
        ("ssh://git:hunter2@example.com/a", "ssh://example.com/a"),
        ("ssh://git@example.com/a", "ssh://git@example.com/a"),
        ("git@example.com:a/b.git", "git@example.com:a/b.git"),
        (
            "https://h/x?access_token=abc&b=1#secret=d",
            "https://h/x?access_token=[masked]&b=1#secret=[masked]",
        ),
        (f"https://h/x?sig={RANDOM_16}&se=1", "https://h/x?sig=[masked]&se=1"),
        ("https://h:8080/@scope/p", "https://h:8080/@scope/p"),
        ("/srv/git/a.git", "/srv/git/a.git"),
        ("file:///srv/git/a.git", "file:///srv/git/a.git"),
    ],
)
def test_url(url: str, kept: str) -> None:
    """Credentials leave an address; the user of an ssh address and a path stay."""
    assert Redactor().url(url) == kept


CODE = [
    ('api_key = "hunter2"', 'api_key = "[masked]"'),
    ('api_key: str = "hunter2"', 'api_key: str = "[masked]"'),
    ('x = dict(password="hunter2", b=b)', 'x = dict(password="[masked]", b=b)'),
    ('os.environ["DB_PASSWORD"] = "hunter2"', 'os.environ["DB_PASSWORD"] = "[masked]"'),
    (f'getenv("WANDB_API_KEY", "{HEX_40}")', 'getenv("WANDB_API_KEY", "[masked]")'),
    (f'arg("--api-key", default="{HEX_40}")', 'arg("--api-key", default="[masked]")'),
    ('run("psql password=hunter2 host=x")', 'run("psql password=[masked] host=x")'),
    ("connect()  # password: hunter2", "connect()  # password: [masked]"),
    ('x = \'{"password": "hunter2"}\'', 'x = \'{"password": "[masked]"}\''),
    ('x = "{\\"password\\": \\"hunter2\\"}"', 'x = "{\\"password\\": \\"[masked]\\"}"'),
    ('if password == "hunter2": pass', 'if password == "[masked]": pass'),
]
PLAIN_CODE = [
    "password = getpass.getpass()",
    "def login(user, password: str, token=None): ...",
    "login(password=args.password, api_key=api_key)",
    'password = input("password: ") or "x"',
    'print(f"token={token} password={password}")',
    'url = f"postgres://{user}:{password}@{host}/x"',
    'headers["Authorization"] = f"Bearer {token}"',
    'headers["Authorization"] = "Bearer " + token',
    'fields = ["user", "password", "token", "email"]',
    'secret = os.environ["SECRET_NAME"]',
    "key = jax.random.PRNGKey(0)",
    's = "it\'s"; login(password=args.password)',
    'log("token: %s" % token)',
]


@pytest.mark.parametrize(("code", "kept"), CODE)
def test_code_literals_are_masked(code: str, kept: str) -> None:
    """In source code the literal is masked and the program around it stays."""
    assert Redactor().patch(f"a = 1\n{code}\n".encode(), "file a.py") == f"a = 1\n{kept}\n".encode()


@pytest.mark.parametrize("code", PLAIN_CODE)
def test_code_without_literals_stays(code: str) -> None:
    """An expression is no secret: the same bytes object comes back."""
    data = code.encode()
    assert Redactor().patch(data, "file a.py") is data


def test_masked_programs_still_parse() -> None:
    """Whatever is masked in the standard library's sources, they stay valid Python."""
    redactor = Redactor()
    library = Path(sysconfig.get_paths()["stdlib"])
    for path in [*library.glob("*.py"), *library.glob("*/*.py")][:600]:
        data = path.read_bytes()
        shown = redactor.patch(data, path.name)
        if shown is not data and not path.name.startswith("bad"):
            ast.parse(shown)
            assert shown.count(b"\n") == data.count(b"\n")


def test_shell_references_stay() -> None:
    """A shell script that only refers to a secret keeps working."""
    data = b'PASSWORD=$1\nPASSWORD=$(cat f)\nPGPASSWORD="$password" psql\nTOKEN=`x`\n'
    assert Redactor().patch(data, "run.sh") is data
    assert Redactor().patch(b"PASSWORD=hunter2\n", "run.sh") == b"PASSWORD=[masked]\n"


PATCH = b"""diff --git a/secret_key=abc.txt b/secret_key=abc.txt
index 1111111111111111111111111111111111111111..2222222222222222222222222222222222222222 100644
--- a/secret_key=abc.txt
+++ b/secret_key=abc.txt
@@ -1,5 +1,5 @@ password: hunter2
 lr: 1
-password: hunter2
+password: hunter3\r
 \xff\xfe latin \xe9
 MIIEowIBAAKCAQEAq7Zt2LxV9bKd4WmR0f9e8d7c6b5a49382716f5e4d3c2b1a0
 -----END PRIVATE KEY-----
\\ No newline at end of file
diff --git a/x.bin b/x.bin
index 1111111111111111111111111111111111111111..2222222222222222222222222222222222222222 100644
GIT binary patch
literal 20
bcmV password=hunter2

diff --git a/y.py b/y.py
--- a/y.py
+++ b/y.py
@@ -1 +1 @@
--- password="hunter2"
+++ password=f()
"""


def test_patch() -> None:
    """In a patch only the content of lines is masked: no header, no binary section."""
    shown = Redactor().patch(PATCH, "patch").split(b"\n")
    expected = PATCH.split(b"\n")
    expected[4] = b"@@ -1,5 +1,5 @@ password: [masked]"
    expected[6] = b"-password: [masked]"
    expected[7] = b"+password: [masked]\r"
    expected[9] = b" [masked]"
    expected[22] = b'--- password="[masked]"'
    assert shown == expected


def test_bytes_without_secrets_are_untouched() -> None:
    """Every byte value survives, in a file and in a patch."""
    everything = bytes(range(256)) * 3
    assert Redactor().patch(everything, "f") is everything
    masked = Redactor().patch(everything + b"\npassword: x1\n" + everything, "f")
    assert masked == everything + b"\npassword: [masked]\n" + everything


def test_own_names_and_patterns() -> None:
    """The user's names match in any spelling, the user's patterns everywhere."""
    redactor = Redactor(names=["mycorp_key"], patterns=[r"CUST-\d+", r"two\nlines"])
    assert redactor.value("train.mycorpKey", "x", "config") == "[masked]"
    assert redactor.text("MYCORP-KEY: x", "c") == "MYCORP-KEY: [masked]"
    assert redactor.text("for CUST-17, CUST-18", "c") == "for [masked], [masked]"
    assert redactor.text("two\nlines\nmore", "c") == "[masked]\n\nmore"
    assert redactor.patch(b"a CUST-1\n", "f") == b"a [masked]\n"
    assert redactor.masked() == [
        Masked("config.train.mycorpKey", "custom-name", 1),
        Masked("c", "custom-name", 1),
        Masked("c", "custom-pattern", 3),
        Masked("f", "custom-pattern", 1),
    ]


@pytest.mark.parametrize("arguments", [{"patterns": ["a(b"]}, {"names": ["a", "__"]}])
def test_bad_extensions_raise(arguments: dict[str, list[str]]) -> None:
    """A pattern that does not compile and a name without letters are refused, and named."""
    with pytest.raises(ArgumentError, match=r"a\(b|__"):
        Redactor(**arguments)


def test_pattern_that_matches_nothing() -> None:
    """A pattern with empty matches changes nothing."""
    assert Redactor(patterns=["x*"]).text("abc", "c") == "abc"


def test_report_is_bounded_and_has_no_values() -> None:
    """The report never holds a value, and never grows without end."""
    redactor = Redactor()
    for number in range(5000):
        redactor.value(f"password{number}", "hunter2", "config")
    masked = redactor.masked()
    assert len(masked) <= 2001
    assert sum(item.count for item in masked) == 5000
    assert "hunter2" not in repr(masked)


HOSTILE = [
    *("a", "=", "-", "key=", "key=key=key=", "key:", '"key":"', "sk-", "eyJ", "://a:", "://a@"),
    *("key: k3y1 ", "-----BEGIN PRIVATE KEY-----", "-----END PRIVATE KEY-----", "-a", "@://"),
    *('password="', "password: x ", "&password=a", "password=", "api_key={", "password=$"),
    *("https://a:b", "eyJaaaaaaaa.", "glpat-aaaaaaaaaaaaaaaaaa.", "bearer ", "'key': '"),
    *('password=f"{', "secret=("),
]


@pytest.mark.parametrize("unit", HOSTILE)
def test_time_is_linear(unit: str) -> None:
    """Four times the text takes about four times as long, whatever is repeated in it."""

    def cost(size: int, where: str) -> float:
        line = "-----BEGIN PRIVATE KEY-----password://" + unit * (size // len(unit)) + "}"
        began = time.process_time()
        Redactor().text(line, "console")
        Redactor().patch(line.encode(), where)
        return time.process_time() - began

    cost(1000, "a.py")
    for where in ("a.py", "a.sh"):
        small = min(cost(25_000, where) for _ in range(2))
        assert cost(100_000, where) < 10 * small + 0.1


def test_common_line_takes_the_short_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """A line without anything suspicious is looked at once, and no rule is tried on it."""

    def refuse(*arguments: object) -> str:
        raise AssertionError(arguments)

    monkeypatch.setattr(Redactor, "_text", refuse)
    redactor = Redactor()
    for line in (
        "epoch 3 loss 0.123",
        "Epoch 3:  45%|\u2588\u2588   | 450/1000 [00:12<00:15, 36.5it/s, train_loss=0.123]",
        "step 100 train_loss=0.1234 grad-norm=1.2 lr=3e-4 val_acc_top5=0.93",
    ):
        assert redactor.text(line, "console") is line


def test_import_compiles_nothing() -> None:
    """The module is imported without a single pattern being compiled."""
    code = (
        "import dataclasses, re, trackway.errors\n"
        "def refuse(*a, **k): raise AssertionError(a)\n"
        "re.compile = refuse\n"
        "import trackway.core._redact\n"
    )
    root = Path(trackway.__file__).parents[1]
    subprocess.run([sys.executable, "-c", code], check=True, cwd=root)
