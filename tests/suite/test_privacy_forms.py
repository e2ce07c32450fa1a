"""What docs/privacy.md says of names, sentences, statements and forms is true of text that is written that way.

Each entry names words of the page; A bare x in a text stands for a word, which only its place gives away.
"""

import re
from pathlib import Path

import pytest

from otel_telemetry.processors.config import RedactionSettings
from otel_telemetry.processors.redact.redactor import Redactor

PAGE = " ".join((Path(__file__).parents[2] / "docs" / "privacy.md").read_text(encoding="utf-8").split())
X = "sunflower"
A_WORD = re.compile(r"(?<![A-Za-z-])x(?![A-Za-z-])")
RANDOM = "YqvwNqsvzxnNouHgtuRpjWsn"
UUID = "80e6b5d0-a9d9-4650-8c6b-df0d7796668d"
CARD = "4111111111111111"

#: Names that decide alone, each in another spelling of `name=value`.
STRONG = (
    *("password", "passwd", "pwd", "passphrase", "passkey", "pin", "otp", "smsCode", "backup_codes", "db_pass"),
    *("client_secret", "credentials", "refresh_token", "jwt", "mnemonic", "code_verifier", "api_key", "signing_key"),
    *("private_key", "authorization", "proxy-authorization", "user.id", "user.name", "db.user", "enduser.pseudo.id"),
    *("session.id", "session.previous_id", "dbPassword", "DB_PASSWORD_1", "db-password-old", "api_key_v2"),
    *("password_hash", "private_key_pem", "client-key-data"),
)
#: Words of the page, and texts that say the same; `x` is to go.
GONE = {
    "letters only, a passphrase or a number": ('{"password":"correct x staple"}', "password=x"),
    "query strings": ("GET /a?password=x HTTP/1.1",),
    "form fields": ("a=1&password=x&b=2",),
    "XML, SOAP, YAML": ("<password>x</password>", '<wsse:Password Type="a">x</wsse:Password>', "db:\n  password: x\n"),
    "the words of a command (also as a list)": ("psql --password x", '["psql","--password","x"]'),
    'pairs such as `["x-api-key", "..."]`': ('["x-api-key","x"]',),
    '`{"name": "x-api-key", "value": "..."}`': (
        '{"name":"x-api-key","value":"x"}',
        '{"Name":"DB_PASSWORD","Value":"x"}',
    ),
    "except its default and examples": ('{"password":{"type":"string","default":"x"}}',),
    "header of a table (CSV, tabs, semicolons, bars": (
        *("name,password\njane,x\n", "name\tpassword\njane\tx\n", "name;password\njane;x\n"),
        '"name,password\\njane,x\\n"',
    ),
    "tables of psql, mysql and Markdown": (
        " id | password \n----+----------\n 1 | x\n",
        "+----+-----------+\n| id | password  |\n+----+-----------+\n|  1 | x |\n+----+-----------+\n",
        "| name | password |\n|---|---|\n| jane | x |\n",
    ),
    "`COPY ... FROM stdin`, the columns of `INSERT`": (
        "COPY users (id, password) FROM stdin;\n1\tx\n\\.\n",
        "INSERT INTO users (name, password) VALUES ('jane', 'x')",
    ),
    "`IDENTIFIED BY x`": ("CREATE USER app IDENTIFIED BY x",),
    "`PASSWORD x` in capitals": ("ALTER USER app PASSWORD x",),
    "`ALTER USER ... WITH PASSWORD x`": ("ALTER USER app WITH PASSWORD x;",),
    "`Password = x; Host = y`": ("Server = h; Password = x; Port = 1",),
    "among lines that are not source code": ("host = h\npassword = x\nport = 1\n",),
    "`password x` among such directives": ("user jane\npassword x\n",),
    "`proxy_set_header`, `SetEnv`, `set -x`, network devices": (
        *("proxy_set_header X-Api-Key x;", "SetEnv DB_PASSWORD x", "set -x DB_PASSWORD x", "enable secret x"),
    ),
    "`-H Authorization: ...`": ("curl -H 'Authorization: x' https://h", '["-H","Authorization: x"]'),
    "schemes of any name (`Authorization: GenieKey x`)": (
        *(
            "Authorization: GenieKey x",
            "Authorization: SSWS x",
            "GET / HTTP/1.1\r\nAuthorization: Acme-API-Key x\r\nHost: h\r\n",
        ),
    ),
    "`LIKE 'x'`, `IN ('x')` and `MD5('x')` in SQL": (
        *("WHERE password LIKE 'x'", "WHERE api_key IN ('moonlight', 'x')", "UPDATE users SET password = MD5('x')"),
    ),
    "`default login name password x`": ("default login jane password x",),
    "options in lists of YAML (`- --password` above `- x`)": ("args:\n  - --password\n  - x\n", '"- --api-key\\n- x"'),
    "both values of a change in Terraform's plans": (
        *(
            '  ~ password = "moonlight" -> "x"',
            '  ~ password = "x" -> "moonlight"',
            'output "admin_password" {\n  value = "x"\n}',
        ),
    ),
    "HAProxy's and Apache's passwords": (
        *("stats auth admin:x", "user admin insecure-password x", "AuthLDAPBindPassword x"),
        'http-request set-header X-Api-Key "x"',
    ),
    "PHP's `[password:protected] => x`": (
        "Login Object\n(\n    [user] => jane\n    [password:protected] => x\n)\n",
        "Login Object\n(\n    [password:App\\Login:private] => x\n)\n",
        'object(Login)#3 (1) {\n  ["password":protected]=>\n  string(9) "x"\n}',
    ),
    """Go's `{"X-Api-Key":[]string{"x"}}`""": (
        'http.Header{"X-Api-Key":[]string{"x"}}',
        '(*Login)(0xc00)({\n Password: (string) (len=9) "x",\n})',
    ),
    """pairs such as `[("user", "bob"), ("password", "x")]`""": (
        *('[("user", "bob"), ("password", "x")]', "MultiDict([('password', 'x')])"),
        "INSERT INTO settings VALUES ('smtp_password', 'x')",
    ),
    '`<meta name="csrf-token" content="x">`, XML-RPC': (
        '<meta name="csrf-token" content="x">',
        "<member><name>password</name><value><string>x</string></value></member>",
    ),
    "names in a terminal's colours": (
        *("\x1b[36mpassword\x1b[0m=x", "\x1b[36mpassword=\x1b[0m'x' user=jane", '"\\u001b[33mpassword\\u001b[0m: x"'),
    ),
    "`user%5Bpassword%5D=x`": ("user%5Bname%5D=jane&user%5Bpassword%5D=x&a=1",),
    "FTP, IMAP and IRC": ("USER jane\r\nPASS x\r\n", "> PASS x", "a1 LOGIN jane x", "/msg NickServ IDENTIFY x"),
    "`reg add`": ("reg add HKLM\\X /v Password /t REG_SZ /d x /f",),
    "Lisp's pairs": ('((user . "jane") (password . "x"))',),
    "typed variables of SQL": ("DECLARE @password NVARCHAR(50) = 'x'",),
    "`**Password**: x`": ("**Password**: x", "- **Password:** x\n"),
    "`set the password as x`": ("please set the password as x",),
    "`my password is x`": ("my password is x",),
    "`set the password to x`": ("set the password to x",),
    "`change it from x to y`": ("change the password from x to moonlight", "change the password from moonlight to x"),
    "`use x as my password`": ("use x as my password",),
    "`log in with the password x`": ("log in with the password x",),
    "`the credentials are name:x`": ("the credentials are bob:x",),
    "`contraseña: x`, `mi clave es x`": ("contraseña: x", "mi clave es x", '{"contraseña":"x"}'),
    "`le mot de passe est x`, `setze das Passwort auf x`": ("le mot de passe est x", "setze das Passwort auf x"),
    "`пароль x`, `密码是x`, `パスワードはxです`, `كلمة المرور هي x`": (
        *("пароль x", "密码是x", "パスワードはxです", "كلمة المرور هي x"),
    ),
    '`connect("h", "root", "x")`, `HTTPBasicAuth("u", "x")`, `new PDO(dsn, "u", "x")`': (
        *('connect("h", "root", "x")', 'HTTPBasicAuth("u", "x")', 'new PDO(dsn, "u", "x")'),
    ),
    "`sqlcmd -P x`, `plink -pw x`": ("sqlcmd -P x", "plink -pw x root@h"),
    "`smbclient -U name%x`, `net user name x /add`, `curl -uname:x`": (
        *("smbclient -U name%x", "net user bob x /add", "curl -uname:x https://h"),
    ),
    '`<input type="password" value="x">`, property lists': (
        *('<input type="password" value="x">', "<key>password</key>\n<string>x</string>"),
    ),
    '`password = "sunflower"` is redacted': ('const password = "x";', 'self.password = "x"'),
}
#: Words of the page, texts, and what is to go or to stay.
LEAVES = (
    (
        "`otp 739154`, `cvv 739`",
        "otp 739154, the 2FA code 862304, my cvv is 739, security code 846",
        ("739", "862", "846"),
    ),
    ("`DOB 02/03/1970`", "DOB 02/03/1970, born on 3.2.1970", ("02/03", "3.2")),
    (
        "beside a word for a telephone",
        "Tel.: 030/1234567, llámame al 612345678, mijn nummer is 06-12345678",
        ("4567", "345678"),
    ),
    (
        "beside a word for a telephone",
        "meu celular é (11) 91234-5678, moje číslo je 777 123 456, הנייד שלי 0521234567",
        ("5678", "456", "0521"),
    ),
    (
        "digits of other scripts",
        "κάρτα" + CARD.translate({code: code + 0xFEE0 for code in range(48, 58)}),
        ("\uff11\uff11",),
    ),
    (
        "mi clave es x",
        "mdp: Tr0ub4dor&3, mon mot de passe c'est Tr0ub4dor&3, la clave es Tr0ub4dor&3, 비번 Tr0ub4dor&3",
        ("Tr0ub",),
    ),
    ("`the credentials are name:x`", f"creds: bob / {X}", (X,)),
    ("`Password = x; Host = y`", "Driver={ODBC};UID=sa;PWD={Tr0ub4dor33x};", ("Tr0ub",)),
    (
        "credentials in URLs",
        "https://YqvwNqsvzxnNouHg:x-oauth-basic@github.com/x, scott/moonlit7@h:1521/x",
        ("Yqvw", "moonlit7"),
    ),
    ("`reset_password`, `has_token`", '{"reset_password":"x7Kp2mQ9","has_token":"b8Lq3nR0"}', ("x7Kp2", "b8Lq3")),
    ("Under `token`, `auth`, `pass` and `pw` alone", "token=x7Kp2mQ9 auth=b8Lq3nR0 pass=c9Mr4oS1", ("x7", "b8", "c9")),
    ("Under `key`, other names that end in `key`", f'key="{RANDOM}" license_key="{RANDOM}"', (RANDOM,)),
    ("`sig` and `signature` as keys of attributes and of JSON", f'{{"signature":"{RANDOM}"}}', (RANDOM,)),
    ("`sig` and `signature` as keys of attributes and of JSON", f'{{"sig":"{RANDOM}"}}', (RANDOM,)),
    ("`heroku_key`, `apiKey`, `snykToken`", f'heroku_key={UUID} snykToken={UUID} {{"apiKey":"{UUID}"}}', (UUID,)),
    ("`ssn`, `socialSecurityNumber`", 'ssn=219099999 {"socialSecurityNumber":219099998}', ("21909",)),
    (
        "`card_number`, `cvv`, `security_code`",
        '{"card_number":4929,"cvv":739,"security_code":"846"}',
        ("4929", "739", "846"),
    ),
    ("`date_of_birth`", "date_of_birth=1970-02-03", ("1970",)),
    ("`email`, `user.email`, `full_name`", '{"email":"jane@h.io","full_name":"Jane Roe"}', ("jane", "Jane")),
    ("`cookie`, `set-cookie`", f"cookie: a={X}\nset-cookie: a={X}; Path=/\n", (X,)),
    ("spaces of any width, dots, dashes of any kind", "4111  1111  1111  1111, 4111.1111.1111.1111", ("1111",)),
    (
        "spaces of any width, dots, dashes of any kind",
        "4111\u20131111\u20131111\u20131111, 4111/1111/1111/1111",
        ("1111",),
    ),
    ("tabs or line breaks", "4111\t1111\t1111\t1111, 4111\n1111\n1111\n1111", ("1111",)),
    ("digits one by one or in pairs only beside a word", f"card {' '.join(CARD)}, card {'41 ' + '11 ' * 7}", ("1 1",)),
    ("after `+`, `(+49)`, `00` and `011`", "(+49) 30 901820, 0049 30 901820, 011 44 20 7946 0958", ("9018", "7946")),
    ("Russian and North American ones by their shape", "8 (495) 123-45-67, (512) 921-5891", ("123-45", "921")),
    (
        "OAuth's `code`, `state` and `code_verifier`",
        "/cb?code=SplxlOBeZQQYbYS6WxSbIA&state=af0ifjsldkj1234567",
        ("Splx",),
    ),
    ("percent-encoding (once or several times)", "jane%40example.com jane%2540example.com", ("jane",)),
    ("`\\x40`, HTML's `&#64;` and `&commat;`", r"jane\x40h.com jane&#64;h.com jane&commat;h.com", ("jane",)),
    (
        "zero-width characters, variation selectors, tags and so on",
        "4111\u200b1111\u200b1111\u200b1111 " + CARD.translate({code: code + 0xFEE0 for code in range(48, 58)}),
        ("111", "\uff11\uff11"),
    ),
)
STAYS = (
    ("*Prose stays prose:*", "PASS src/app.test.ts\n--- PASS: TestLogin (0.00s)", ("src/app.test.ts", "TestLogin")),
    ("*Prose stays prose:*", "credentials: /etc/app/key.json\nmap[password: user:]", ("/etc/app/key.json", "user:")),
    ("types (`string`)", "pin: top-left\nsecrets: inherit\nauth: oauth2", ("top-left", "inherit", "oauth2")),
    ("after a word for a version or a program's name", "section 3.2.1.4, chapter 1.2.3.4", ("3.2.1.4", "1.2.3.4")),
    (
        "*Prose stays prose:*",
        "Authorization: REQUIRED for all\nauthorization: see docs",
        ("REQUIRED for all", "see docs"),
    ),
    ("*Prose stays prose:*", "[('password', 'Password'), ('token', 'Token')]", ("'Password'", "'Token'")),
    ("*Prose stays prose:*", 'f"UID={user};PWD={password};"', ("{user}", "{password}")),
    (
        "*Prose stays prose:*",
        "set the password as required; Erlang/OTP 26, error code 40412",
        ("required", "26", "40412"),
    ),
    ("Booleans and null stay", '{"password":true,"secret":null}', ("true", "null")),
    ("Numbers stay under plurals (`cookies: 3`)", "cookies: 3", ("3",)),
    ("tokens that may be counted (`max_token`)", "max_token=4096", ("4096",)),
    ("and under `email` and `full_name`", '{"email":12345,"full_name":67890}', ("12345", "67890")),
    ("variables (`${DB_PASSWORD}`)", "password=${DB_PASSWORD}", ("${DB_PASSWORD}",)),
    (
        "`<password>`, `your-api-key`, `changeme`",
        "password=<password> api_key=your-api-key password=changeme",
        ("changeme",),
    ),
    ("types (`string`)", "password: string", ("string",)),
    ("a UUID as the id of a user or session", f"session.id={UUID}", (UUID,)),
    (
        "describes passwords (expired, required, the same)",
        "my password is expired, the password is required",
        ("expired", "required"),
    ),
    (
        "continues the phrase (policy, to continue)",
        "the password policy: change the password to continue",
        ("policy", "continue"),
    ),
    ("neither a word nor a plain number", "token: expired\nauth=482", ("expired", "482")),
    (
        "`code`, `id`, `cache_key`, `idempotency_key`",
        f'code={X}7 id={X}8 cache_key="{RANDOM}" idempotency_key="{RANDOM}"',
        (X, RANDOM),
    ),
    ("`public_key`, `page_token` and the like", f'public_key="{RANDOM}" page_token="{RANDOM}"', (RANDOM,)),
    ('`password = "new-password-field"` is not', 'const password = "new-password-field";', ("new-password-field",)),
    ("A UUID under a bare `key` stays", f'key={UUID} {{"key":"{UUID}"}}', (UUID,)),
    ("`Password: must be at least 8 characters`", "Password: must be at least 8 characters", ("must be at least 8",)),
    ("`password: str` declares a type", "password: str", ("str",)),
    ("`token = get_token()` is code", "token = get_token()", ("get_token()",)),
    (
        "`ssh user@host` and `scp ... user@host:path` stay",
        "ssh jane@h.example.com\nscp a jane@h.example.com:p",
        ("jane@h",),
    ),
    ("the number of an order, an invoice, a parcel", f"order no. {CARD}, invoice {CARD}", (CARD,)),
    ("after a word for a version or a program's name", "version 1.2.3.4, nginx/1.2.3.5", ("1.2.3.4", "1.2.3.5")),
    ("before `-rc1`, `.jar` and the like", "1.2.3.4-rc1 lib-1.2.3.5.jar", ("1.2.3.4", "1.2.3.5")),
    ("a key that ends in `version`", '{"app_version":"1.2.3.4"}', ("1.2.3.4",)),
    ("such as `****1111` or `k1_57cfc3df6c30`", "****1111 k1_57cfc3df6c30", ("****1111", "k1_57cfc3df6c30")),
)


@pytest.fixture(scope="module")
def redacted():
    redactor = Redactor(RedactionSettings())
    return redactor.string


@pytest.mark.parametrize("name", STRONG)
@pytest.mark.parametrize("form", ["{name}={x}", '{{"{name}":"{x}"}}', "a: 1\n{name}: {x}\nb: 2\n"])
def test_a_strong_name_decides_alone(redacted, name, form):
    assert f"`{name}`" in PAGE
    assert X not in redacted(form.format(name=name, x=X))


@pytest.mark.parametrize("words", GONE)
def test_what_the_page_says_is_redacted_is_redacted(redacted, words):
    assert words in PAGE
    for text in GONE[words]:
        filled, count = A_WORD.subn(X, text)
        assert count > 0
        assert X not in redacted(filled)


@pytest.mark.parametrize(("words", "text", "values"), LEAVES)
def test_values_of_these_forms_are_redacted(redacted, words, text, values):
    assert words in PAGE
    assert all(value in text for value in values)
    assert not any(value in redacted(text) for value in values)


@pytest.mark.parametrize(("words", "text", "values"), STAYS)
def test_what_the_page_says_stays_stays(redacted, words, text, values):
    assert words in PAGE
    out = redacted(text)
    assert all(out.count(value) == text.count(value) for value in values)
