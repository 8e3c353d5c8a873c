"""URLs of a Redis: every password is understood, none is shown, and every option is used, overridden or refused."""

import ssl
import traceback

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from protocol.redis_url import OVERRIDDEN_OPTIONS, InvalidRedisUrl, RedisUrl, parse_redis_url, redact

UNKNOWN = "ERR unknown command 'AUTH'"


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis://", RedisUrl()),
        ("redis://example", RedisUrl(host="example")),
        ("REDIS://u:secret@e:7000/3", RedisUrl(host="e", port=7000, db=3, username="u", password="secret")),
        ("redis://:p@ss?w@example", RedisUrl(host="example", password="p@ss?w")),
        ("redis://user@example", RedisUrl(host="example", username="user")),
        ("redis://example?db=4", RedisUrl(host="example", db=4)),
        ("redis://example?username=u&password=a@b", RedisUrl(host="example", username="u", password="a@b")),
        ("rediss://:p@[::1]:6380/", RedisUrl(host="::1", port=6380, password="p", is_tls=True)),
        ("redis+cluster://example:1", RedisUrl(host="example", port=1, is_cluster=True)),
        ("rediss+cluster://example/0", RedisUrl(host="example", is_cluster=True, is_tls=True)),
        ("unix:///run/my redis.sock?db=2", RedisUrl(path="/run/my redis.sock", db=2)),
        ("unix://u:p/w@/run/r@dis.sock", RedisUrl(path="/run/r@dis.sock", username="u", password="p/w")),
        (" redis://e.f-g_h.:7/1 \n", RedisUrl(host="e.f-g_h.", port=7, db=1)),
        ("redis://e?client_name=w", RedisUrl(host="e", client_name="w")),
        (
            "rediss://e?ssl_cert_reqs=none",
            RedisUrl(host="e", is_tls=True, tls={"ssl_cert_reqs": "none", "ssl_check_hostname": False}),
        ),
        ("rediss://e?ssl_ca_certs=/a%20b", RedisUrl(host="e", is_tls=True, tls={"ssl_ca_certs": "/a b"})),
    ],
)
def test_forms(url: str, expected: RedisUrl) -> None:
    """Each part is where it belongs; without user, password and options, the address leads to the same place."""
    assert parse_redis_url(url) == expected
    again = parse_redis_url(expected.address)
    for name in ("host", "port", "path", "db", "is_tls", "is_cluster"):
        assert getattr(again, name) == getattr(expected, name)


@pytest.mark.parametrize("place", ["redis://{}h:7/2", "rediss://{}[::1]?db=1", "unix://{}/run/r.sock"])
@given(
    user=st.text("abc.-_", max_size=4),
    password=st.text(st.characters(codec="utf-8", exclude_characters="%\x00"), min_size=1),
)
def test_a_password_may_hold_any_character(place: str, user: str, password: str) -> None:
    """Law: as it is, without %XX, and none of it is in the address, in `repr`, or in an error."""
    assume("@" not in password or "?" not in password)  # what looks like another host with options is refused
    parsed = parse_redis_url(place.format(f"{user}:{password}@"))
    assert (parsed.username, parsed.password) == (user, password)
    assert f"RedisUrl({parse_redis_url(place.format('')).address!r})" == f"RedisUrl({parsed.address!r})" == repr(parsed)


@given(
    scheme=st.sampled_from(["redis", "REDISS", "redis+cluster", "unix", "http", ""]),
    noise=st.text("ab/?#[]@:&=%;,. 0\x00\n\udcff", max_size=12),
    place=st.sampled_from(["{0}@h{1}", "{1}{0}@h", "h?password={0}{1}", "h?password={0}&{1}", "h?{1}&password={0}"]),
)
def test_no_error_quotes_a_password(scheme: str, noise: str, place: str) -> None:
    """Law: wherever it stands, and whatever stands around it; what can be read shows an address without it."""
    assume(scheme != "unix" or "/" not in noise or not place.startswith("{1}"))  # then it is part of a socket's path
    secret = "S3CRET"
    try:
        shown = repr(parse_redis_url(f"{scheme}://{place.format(f'u:{secret}', noise)}"))
    except InvalidRedisUrl as error:
        shown = str(error)
    assert secret not in shown


@given(password=st.text("ab/?#[]@:&=%", min_size=1), user=st.sampled_from(["", "u"]))
def test_what_special_characters_become(password: str, user: str) -> None:
    """Law: written as %XX they are always what they stand for."""
    quoted = "".join(f"%{ord(char):02X}" for char in password)
    assert parse_redis_url(f"redis://{user}:{quoted}@h:7").password == password


@pytest.mark.parametrize(
    "url",
    [
        "",
        "s3cret",
        "http://:s3cret@h",
        "redis://:s3cret",
        "redis://:s3cret/0",
        "redis://h:99999?password=s3cret",
        "redis://:s3cret@h:x",
        "redis://:s3cret@h/x",
        "redis://h?db=s3cret",
        "redis://h?pass=s3@cret",
        "redis://:pw@h?pass=s3@cret",
        "redis://h?password=s3&cret=1",
        "redis://h?password=x&s3cret=",
        "redis://h?password=x&password=s3cret",
        "redis://:x@h?password=s3cret",
        "redis://:s3cret@h?password=x",
        "redis://s3cret@h?username=x",
        "redis://:s3cret@h..i",
        "redis://:s3cret@.h",
        f"redis://:s3cret@{'h' * 64}.i",
        "redis://:s3cret@h:0",
        "redis://:s3cret@h/1?db=2",
        "redis://:s3\udcffcret@h",
        "unix://:s3cret@/run/%00",
        "rediss://:s3cret@h?ssl_keyfile=/k",
        "rediss://h?ssl_ca_certs=s3cret%00",
        "rediss://h?ssl_cert_reqs=s3cret",
        "rediss://h?ssl_check_hostname=s3cret",
        "redis+cluster://:s3cret@h/2",
        "unix://:s3cret@",
    ],
)
def test_nothing_of_a_url_that_cannot_be_read_is_quoted(url: str) -> None:
    """Neither in the message, nor in the traceback."""
    with pytest.raises(InvalidRedisUrl, match="expected") as failure:
        parse_redis_url(url)
    shown = "".join(traceback.format_exception(failure.value))
    for piece in ("s3", "cret"):
        assert piece not in str(failure.value)
        assert piece not in shown.replace("parse_redis_url(url)", "")


@pytest.mark.parametrize("option", sorted(OVERRIDDEN_OPTIONS))
def test_options_that_decalage_sets_itself_change_nothing(option: str) -> None:
    """Whatever their values: they are named, and no argument of redis-py's client comes from them."""
    parsed = parse_redis_url(f"redis://h?{option}=nonsense")
    assert parsed.overridden == (option,)
    assert parsed.settings == parse_redis_url("redis://h").settings


@pytest.mark.parametrize(
    ("url", "named"),
    [
        ("redis://h?foo=3&db=1", "got foo"),
        ("redis://h?ssl_cert_reqs=none", "ssl_cert_reqs"),
        ("redis://h?retry=3", "got retry"),
        ("redis://h?connection_class=x", "got connection_class"),
        ("redis://h?db=x", "option db"),
        ("redis://h?db=-1", "option db"),
        ("redis://h?db=٣", "option db"),
        ("redis://h?db=1_0", "option db"),
        ("redis://h/12345678901", "number of a database"),
        ("redis://h?db=1&db=1", "option db once"),
        ("redis://h/1?db=1", "db once"),
        ("redis://u:p@h?username=u&password=p", "username and password once"),
        ("redis://h?client_name=a b", "without spaces"),
        ("redis://h?client_name=%C3%A9", "ASCII"),
        ("rediss://h?ssl_keyfile=/k", "ssl_certfile with ssl_keyfile"),
        ("unix:///%00", "without %00"),
        ("redis://h:0", "from 1 to 65535"),
        ("rediss://h?ssl_cert_reqs=maybe", "none, optional or required"),
        ("rediss://h?ssl_cert_reqs=none&ssl_check_hostname=yes", "ssl_check_hostname=false"),
    ],
)
def test_other_options_are_refused_by_name(url: str, named: str) -> None:
    """With what was expected."""
    with pytest.raises(InvalidRedisUrl, match=named):
        parse_redis_url(url)


def test_tls_is_strict_unless_the_url_says_otherwise() -> None:
    """Certificate and host name are checked; plain connections have no context."""
    assert parse_redis_url("redis://h").tls_context() is None
    strict = parse_redis_url("rediss://h").tls_context()
    loose = parse_redis_url("rediss://h?ssl_cert_reqs=none").tls_context()
    assert strict is not None
    assert loose is not None
    assert (strict.verify_mode, strict.check_hostname) == (ssl.CERT_REQUIRED, True)
    assert (loose.verify_mode, loose.check_hostname) == (ssl.CERT_NONE, False)
    with pytest.raises(OSError, match="No such file"):
        parse_redis_url("rediss://h?ssl_ca_certs=/nowhere").tls_context()


def test_causes_lose_what_they_quote_too() -> None:
    """Each of them, also where they go round; the rest of their text stays."""
    quoting = "ERR unknown command 'AUTH', with args beginning with: 's3cret' "
    errors = [ValueError(quoting, 7), RuntimeError(5, quoting), KeyError(quoting)]
    for error, cause in zip(errors, [*errors[1:], errors[0]], strict=True):
        error.__cause__ = cause
    assert redact(errors[0]) is errors[0]
    assert [error.args for error in errors] == [(UNKNOWN, 7), (5, UNKNOWN), (UNKNOWN,)]
