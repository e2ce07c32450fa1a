"""Secrets that stand in columns, rows, statements, files of settings and sentences; and what only looks like one."""

from typing import Final

import pytest

from otel_telemetry.processors.config import RedactionSettings
from otel_telemetry.processors.redact.redactor import Redactor
from otel_telemetry.processors.streams import BLOCK, Tally, redact_stream

REDACTOR = Redactor(RedactionSettings())
DRAWN: Final = "TqxbLvzrKmwdPfgjNhcsWkyq"
#: `{v}` is a word that no look gives away.
FORMS: Final = """\
login bob PASSWORD {v}
ALTER USER app WITH PASSWORD {v};
CREATE USER app IDENTIFIED BY {v} DEFAULT TABLESPACE users
ALTER USER 'x'@'%' IDENTIFIED WITH mysql_native_password BY '{v}'
SET PASSWORD FOR app = '{v}'
CREATE DATABASE LINK l CONNECT TO app IDENTIFIED BY {v} USING 'x'
my password is: {v}
The password is {v}
Your new password is {v}, please change it
her password was {v}.
password changed to {v}
the wifi password is '{v} {v}'
the passphrase is {v}
the secret is: {v}
das Passwort ist {v}
mi contraseña es {v}
le mot de passe est {v}
{{"senha":"{v}"}}
пароль: {v}
Data Source=db; User Id=app; Password = {v}; Host = h
host = y user = app password = {v} dbname = x
user = app, password = {v}, port = 1
password => {v}
connect(host => 'x', password => {v})
[db]\\nhost = x\\npassword = {v}\\nport = 1
db.password = {v}\\ndb.host = x
password   = {v}
user jane\\npassword {v}
DB_PASSWORD := {v}
set -gx DB_PASSWORD {v}
setenv DB_PASSWORD {v}
SetEnv DB_PASSWORD {v}
proxy_set_header X-Api-Key {v};
proxy_set_header Authorization "Bearer {v}{v}";
set $api_key "{v}";
fastcgi_param DB_PASSWORD {v};
RequestHeader set Authorization "Bearer {v}{v}"
username admin password 7 {v}
enable secret {v}
snmp-server community {v} ro
curl -H Authorization: Bearer {v}{v} https://x
curl --header=Authorization: Bearer {v}{v} x
curl -HAuthorization:Bearer {v}{v} x
curl -H X-Api-Key:{v} https://x
wget --header=X-Auth-Token:{v} x
name,email,password\\njane,x,{v}\\nbob,y,{v}2
id;user;api_key\\n1;jane;{v}\\n2;bob;{v}
id\\tpassword\\n1\\t{v}
"id","password"\\n"1","{v},{v}"
ValueError: name,password\\njane,{v}\\n
full_name,city\\n{v} Roe,Bern
user|password|host\\njane|{v}|h
 id | password | host\\n----+----------+-----\\n 1 | {v} | h
| id | password |\\n|---|---|\\n| 1 | {v} |\\n| 2 | {v} |
+----+----------+\\n| id | password |\\n+----+----------+\\n|  1 | {v} |\\n+----+
{{"dump": "id,password\\\\n1,{v}\\\\n2,{v}", "n": "a,b"}}
INSERT INTO t (user, password) VALUES ('jane', '{v}'), ('bob', '{v}'), ('al', '{v}')
INSERT INTO t (password, a) VALUES\\n ('{v}', 1),\\n ('{v}', 2);
REPLACE INTO t (user, password) VALUES ('jane', '{v}')
INSERT INTO t (user, password) SELECT 'jane', '{v}'
COPY users (id, password) FROM stdin;\\n1\\t{v}\\n2\\t{v}\\n
""".splitlines()
#: `{v}` has letters, digits and signs, as chosen passwords do.
CHOSEN: Final = """\
ID/PW : admin / {v}
password (admin): {v}
the password for admin is {v}
Password:\\n  {v}\\n
config.setPassword("{v}")
password.equals("{v}")
login('admin', '{v}')
process.env.PASSWORD || '{v}'
echo {v} | sudo -S ls
echo root:{v} | chpasswd
htpasswd -bc f admin {v}
rabbitmqctl add_user a {v}
net use x: //h/s /user:admin {v}
ConvertTo-SecureString -String "{v}" -AsPlainText -Force
zip -P {v} a.zip
7z x -p{v} a.7z
sshpass -p{v} ssh x
ldapsearch -w {v} -D x
mongo -u admin -p {v}
keytool -storepass {v}
curl -u :{v} x
""".splitlines()
#: `{v}` is drawn from letters and digits, as keys without a prefix are.
KEYS: Final = """\
[DEBUG] Using Key={v}
client = acme.NewClient("{v}")
req.SetBasicAuth("user", "{v}")
auth=("user", "{v}")
<token>{v}</token>
https://api.example.com/x?appid={v}
curl -u {v}: https://api.example.com
ACME_API={v}
ACME_PAT = "{v}"
salt = "{v}"
mailjet {v}
chartmogul={v}
'pipedrive': '{v}'
CLOUDMERSIVE_API_KEY: {v}
""".splitlines()
#: Random letters, under names and schemes that are judged by the look.
DRAWN_FORMS: Final = """\
Authorization: Bearer {v}
got Authorization: Bearer {v} from client
sent Bearer {v} to it
"Bearer {v}"
auth=Bearer%20{v}
Authorization=Bearer {v}
Authorization: Token {v}
ARG TOKEN={v}
aws_secret_access_key = {v}
""".splitlines()
PROSE: Final = """\
the password is required
The password is incorrect.
Your password is about to expire
password was reset by an administrator
the password is hashed with bcrypt
my password is not working
password is 'expired'
the password is the same
PASSWORD EXPIRED
the PASSWORD variable is unset
each row is identified by id.
alter user x password null
ALTER USER app IDENTIFIED BY RANDOM PASSWORD
set the password to a strong value
contraseña: olvidada
пароль: введите
password = self.password
def f():\\n    password = secret_of_user\\n    return password
password = new_password
if password = other then
password => String
Bearer AuthenticationMiddleware
Bearer authentication is required
curl -H Authorization: Bearer $TOKEN
-H Authorization: required
proxy_set_header Authorization $http_authorization;
enable password authentication
set -x DB_HOST db
name,email,password
id,password\\n,
salt = os.urandom(16)
setPassword(password)
login('admin', 'dashboard')
os.getenv('PASSWORD', 'default')
datadog trace_id 8f14e45fceea167a5a36dedd4bea2543
sentry-worker-7d9f8b6c5d-x2x4z is ready
user,password,host are required fields\\nplease, give, them
| Option | Description | Default |\\n|---|---|---|\\n| password | The password | none |
| name | password | email |\\n|---|---|---|\\n| string | string | string |
| password | string | required |\\n| hostname | string | optional |
name, password, email = row\\na, b, c = d
INSERT INTO t (user, password) VALUES (?, ?), (%s, %s)
INSERT INTO t (a, password) VALUES (1, NULL), (2, NULL)
""".splitlines()


def redacted(text: str) -> str:
    return b"".join(redact_stream(REDACTOR, [text.encode()], Tally())).decode()


@pytest.mark.parametrize("form", FORMS)
def test_a_word_goes_where_its_place_says_what_it_is(form: str) -> None:
    text = form.replace("\\n", "\n").replace("\\t", "\t").format(v="sunflower")
    assert "sunflower" not in redacted(text)
    assert redacted(redacted(text)) == redacted(text)


@pytest.mark.parametrize("form", DRAWN_FORMS)
def test_random_letters_count_as_random(form: str) -> None:
    assert DRAWN not in redacted(form.format(v=DRAWN))


@pytest.mark.parametrize("form", CHOSEN)
def test_a_chosen_password_goes_where_a_call_or_a_command_takes_it(form: str) -> None:
    assert "Xk29fLq!7w" not in redacted(form.replace("\\n", "\n").format(v="Xk29fLq!7w"))


@pytest.mark.parametrize("value", ["3f9c1d7a0b86e2f4951ca7d08e63b24f", "q8Zt5Lw2Xk9Vb4Nm7Rc1Yd6F"])
@pytest.mark.parametrize("form", KEYS)
def test_a_key_without_a_prefix_goes_beside_its_service_and_in_its_place(form: str, value: str) -> None:
    assert value not in redacted(form.replace("{v}", value))


@pytest.mark.parametrize("form", PROSE)
def test_sentences_and_code_stay(form: str) -> None:
    text = form.replace("\\n", "\n")
    assert redacted(text) == text


def test_rows_keep_their_other_columns() -> None:
    assert (
        redacted("name,password,city\njane,sunflower,Bern\n") == "name,password,city\njane,[REDACTED_PASSWORD],Bern\n"
    )


def test_a_table_of_many_blocks_is_read_below_its_head() -> None:
    rows = [f"jane{number},sunflower{number}q,Bern" for number in range(3 * BLOCK // 30)]
    text = "\n".join(["name,password,city", *rows])
    out = b"".join(
        redact_stream(REDACTOR, [text[at : at + 65_536].encode() for at in range(0, len(text), 65_536)], Tally())
    )
    assert b"sunflower" not in out
    assert out.count(b"\n") == text.count("\n")
    assert out.startswith(b"name,password,city\njane0,")


@pytest.mark.parametrize(
    "name",
    [
        "contraseña",
        "user.senha",
        "mot_de_passe",
        "hasło",
        "şifre",
        "lösenord",
        "пароль",
        "用户密码",
        "パスワード",
        "비밀번호",
        "Kennwort",
    ],
)
def test_a_password_is_named_in_many_languages(name: str) -> None:
    assert REDACTOR.dirty([name])
    assert REDACTOR.item(name, "sunflower") == (name, "[REDACTED_PASSWORD]")
    assert "sunflower" not in redacted(f'{{"{name}": "sunflower"}}')
