"""Words that make up names of secrets and of people: data for keys.py.

A stem matches at the end of a name after its words are joined (`clientSecret`, `client_secret` and `CLIENT-SECRET` are
`clientsecret`). A word matches only as a whole word.
"""

from collections.abc import Mapping
from typing import Final

PASSWORD: Final = "PASSWORD"  # noqa: S105  # the name of a type
SECRET: Final = "SECRET"  # noqa: S105  # the same
API_KEY: Final = "API_KEY"
PRIVATE_KEY: Final = "PRIVATE_KEY"
AUTHORIZATION: Final = "AUTHORIZATION"
COOKIE: Final = "COOKIE"
USER_ID: Final = "USER_ID"
SESSION_ID: Final = "SESSION_ID"
SSN: Final = "SSN"
CREDIT_CARD: Final = "CREDIT_CARD"
EMAIL: Final = "EMAIL"
PERSON: Final = "PERSON"
DATE_OF_BIRTH: Final = "DATE_OF_BIRTH"
#: A name that most often holds a secret, such as a bare `token`: a value counts that no word or number looks like.
LIKELY: Final = "likely"
#: A name that may hold a secret, such as a bare `key`: only a value that looks drawn at random counts.
WEAK: Final = "weak"
#: A name such as `acme_key`, which is most likely the vendor's: a value drawn at random counts, a UUID too.
VENDOR: Final = "vendor"

#: Long enough to mean the same wherever a name ends in them.
STEMS: Final[Mapping[str, str]] = {
    **dict.fromkeys(
        "password passwd passphrase passcode passwort pswd passkey smscode otpcode mfacode totpcode twofactorcode"
        " verificationcode onetimecode backupcode recoverycode pinnumber passwordsalt"
        " kennwort wachtwoord contrasena motdepasse salasana losenord adgangskode kodeord jelszo lozinka"
        " contrasenya pasahitza nenosiri".split(),
        PASSWORD,
    ),
    **dict.fromkeys(
        "secret credential mnemonic seedphrase recoveryphrase codeverifier authorizationcode authcode clientassertion"
        " samlresponse samlassertion accesskeyid accesssignature secretproof snmpcommunity idtokenhint totpseed"
        " otpseed unsealkey recoverykey".split(),
        SECRET,
    ),
    **dict.fromkeys("apikey accesskey".split(), API_KEY),
    "privatekey": PRIVATE_KEY,
    "authorization": AUTHORIZATION,
    "cookie": COOKIE,
    **dict.fromkeys("sessionid phpsessid sessionpreviousid".split(), SESSION_ID),
    **dict.fromkeys("socialsecuritynumber socialsecurityno socialsecurity ssnnumber".split(), SSN),
    **dict.fromkeys(
        "creditcardnumber creditcardno creditcard debitcardnumber debitcard cardnumber cardno ccnumber ccnum"
        " securitycode cardverificationvalue cardcvv cardcvc primaryaccountnumber".split(),
        CREDIT_CARD,
    ),
    **dict.fromkeys("emailaddress useremail customeremail".split(), EMAIL),
    **dict.fromkeys("userfullname fullname maidenname".split(), PERSON),
    **dict.fromkeys("dateofbirth birthdate birthday userdob".split(), DATE_OF_BIRTH),
}
#: Too short to mean anything inside a longer word.
WORDS: Final[Mapping[str, str]] = {
    **dict.fromkeys(
        "pwd pin otp totp psk storepass keypass senha heslo haslo parola parol sifre passord geslo".split(), PASSWORD
    ),
    **dict.fromkeys("creds cred jwt".split(), SECRET),
    "ssn": SSN,
    **dict.fromkeys("cvv cvv2 cvc cvc2 ccn".split(), CREDIT_CARD),
    "dob": DATE_OF_BIRTH,
    "email": EMAIL,
}
#: Names for a password in other scripts.
PASSWORDS: Final = (
    "пароль 密码 密碼 口令 パスワード 暗証番号 비밀번호 암호 รหัสผ่าน पासवर्ड סיסמה סיסמא κωδικόςπρόσβασης"
    " ពាក្យសម្ងាត់ ລະຫັດຜ່ານ စကားဝှက် პაროლი գաղտնաբառ གསང་ཚིག கடவுச்சொல் পাসওয়ার্ড પાસવર્ડ ਪਾਸਵਰਡ මුරපදය лозинка құпиясөз".split()
)
#: The last two words of a name, for words that mean something else in other company.
PAIRS: Final[Mapping[tuple[str, str], str]] = {
    **{(owner, "id"): USER_ID for owner in ("user", "enduser", "pseudo")},
    ("user", "name"): USER_ID,
    ("db", "user"): USER_ID,
    ("database", "user"): USER_ID,
    ("session", "id"): SESSION_ID,
    ("pin", "code"): PASSWORD,
    **{(owner, "code"): CREDIT_CARD for owner in ("cvv", "cvv2", "cvc", "cvc2")},
    ("device", "code"): LIKELY,
}
#: Whole names, as one word.
EXACT: Final[Mapping[str, str]] = {
    **dict.fromkeys(("userid", "enduserid"), USER_ID),
    **dict.fromkeys(("connectsid", "laravelsession"), SESSION_ID),
}
#: Short for password behind what has one: `db_pass`, but not `boarding_pass`.
PASS_OWNERS: Final = frozenset(
    "db database sql mysql pg postgres postgresql redis mongo mongodb rabbitmq amqp smtp imap pop mail email ftp"
    " sftp ssh http https proxy basic auth login user admin root account ldap wifi wlan service server app site"
    " keystore truststore encryption decryption new old current become sudo ansible vault connection".split()
)
KEY_OWNERS: Final = frozenset(
    "api app access secret private auth encryption encrypt signing signature master account shared service"
    " license subscription hmac aes rsa ssh deploy write read admin consumer integration rest webhook functions client"
    " decryption sas ssl tls".split()
)
#: Words that end in `key`, and are none.
NO_KEYS: Final = frozenset("monkey donkey turkey hockey whiskey jockey hickey hokey pokey flunkey lackey".split())
#: What has keys that are never secrets.
PUBLIC_KEY_OWNERS: Final = frozenset(
    "cache idempotency primary foreign partition sort routing dedup deduplication message object row record resource"
    " public s3 bucket blob file i18n translation shard".split()
)
#: What has keys that seldom are.
PLAIN_KEY_OWNERS: Final = frozenset(
    "request response correlation group hash range index map registry lookup redis storage feature flag text label"
    " field column config setting env metric tag topic queue item entity unique composite business natural surrogate"
    " json dict attribute attr property prop header param query form event trace span log session user tenant"
    " project job task run step node edge table schema db database entry lock rate limit order parent child root"
    " path url uri image media upload document doc issue ticket commit build pipeline release test case meta pub"
    " first last next prev start end min max new old any every the that".split()
)
#: What comes before `token` where a text is counted or a page is named.
COUNTED_TOKENS: Final = frozenset(
    "pad eos bos unk sep cls mask stop start end first last per max min time special input output cached prompt"
    " completion total reasoning num count new delta inline".split()
)
PAGE_TOKENS: Final = frozenset("page next continuation sync cursor pagination resume".split())
#: Words behind a name that leave it a name of the value itself: `password_hash`, `db_password_old`, `client-key-data`.
TAILS: Final = frozenset(
    "value val confirmation confirm confirmed again repeat retype old new current previous prev next latest temp tmp"
    " backup primary secondary alt main raw plain plaintext text string str data content bytes pem der b64 base64 hex"
    " encoded encrypted enc hash hashed digest md5 sha1 sha256 sha512 bcrypt scrypt salted base"
    " prod production dev development test testing stage staging live qa uat local default".split()
)
#: A first word that makes the name one of an act, a question or a limit, not of the value.
ACTS: Final = frozenset(
    "has is show hide no use uses need needs require requires required forgot forgotten reset change changed"
    " validate check verify get hash generate create delete remove ask allow allows enable enabled disable disabled"
    " wrong invalid missing with without max min num".split()
)
PHONES: Final = frozenset("tel mobile cell msisdn fax telefon whatsapp phoneno mobileno mobilenumber".split())
NUMBER_WORDS: Final = frozenset("number no nr num e164 value home work main primary".split())
