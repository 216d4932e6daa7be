"""`voicemill storage lifecycle` against an S3 server, as it is typed."""

import json
import urllib.request
from contextlib import closing, contextmanager
from types import SimpleNamespace
from urllib.parse import parse_qsl

import boto3
import pytest
from botocore.exceptions import ClientError

from cli import main
from storage import lifecycle, objects
from storage.objects import s3_aging
from storage.objects.store import Lifecycle

FOREIGN = [
    {"ID": "logs", "Status": "Enabled", "Filter": {"Prefix": "logs/"}, "Expiration": {"Days": 7}},
    {
        "ID": "by size",
        "Status": "Disabled",
        "Filter": {"And": {"Prefix": "raw/", "ObjectSizeGreaterThan": 5, "Tags": [{"Key": "a", "Value": "b"}]}},
        "Transitions": [{"Days": 3, "StorageClass": "DEEP_ARCHIVE"}],
        "NoncurrentVersionExpiration": {"NoncurrentDays": 4},
    },
]


NOTHING = ("--takes", "0", "--audio", "keep", "--texts", "0", "--reels", "0", "--uploads", "0")


@contextmanager
def client_of(url):
    """boto3's own client, and the name of the bucket."""
    bucket, _, query = url.removeprefix("s3://").partition("?")
    place = dict(parse_qsl(query))
    with closing(boto3.client("s3", endpoint_url=place["endpoint_url"], region_name=place["region"])) as client:
        yield client, bucket


@pytest.fixture
def s3(s3_url, monkeypatch):
    def open_it(prefix="", versioning=None, **options):
        url = s3_url.replace("?", f"/{prefix}?" if prefix else "?")
        url += "".join(f"&{name}={value}" for name, value in options.items())
        monkeypatch.setenv("VOICEMILL_STORE_URL", url)
        if versioning:
            with client_of(s3_url) as (client, bucket):
                client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": versioning})
        return objects.open_store(url)

    return open_it


@pytest.fixture
def run(capsys):
    def run(*arguments):
        with pytest.raises(SystemExit) as ended:
            main.main(["storage", "lifecycle", *arguments])
        told = capsys.readouterr()
        return int(ended.value.code or 0), told.out, told.err

    return run


@pytest.fixture
def told(run):
    def told(*arguments, code=0):
        ended, out, err = run(*arguments, "--json")
        assert ended == code, err
        return json.loads(out)

    return told


def test_what_is_applied_reads_back_equal_to_the_plan(s3, told):
    store = s3("books", tags="project%3Dbooks")
    options = ("--audio", "instant=30", "--audio", "deep=365", "--takes", "14", "--texts", "0")
    planned = told("plan", *options)
    assert planned["applied"] is False
    assert store.lifecycle() == Lifecycle()
    applied = told("apply", *options)
    assert applied["rules"] == planned["rules"]
    assert sorted(planned["added"]) == [
        f"voicemill-{name}@books" for name in ("audio-deep", "audio-instant", "reels", "takes", "uploads")
    ]
    read = store.lifecycle()
    assert [lifecycle.canonical(rule) for rule in read.rules] == planned["rules"]
    assert read.default_minimum == lifecycle.SMALL_STAY
    again = told("apply", *options)
    assert (again["added"], again["changed"], again["removed"]) == ([], [], [])


def test_foreign_rules_survive(s3, told, run):
    store = s3()
    store.set_lifecycle(Lifecycle(FOREIGN, "varies_by_storage_class"))
    told("apply")
    told("apply", "--takes", "0", "--audio", "flexible=90")
    read = store.lifecycle()
    assert lifecycle.same_rules(read.rules[:2], FOREIGN)
    assert [rule["ID"] for rule in read.rules[2:]] == [
        "voicemill-audio-flexible",
        "voicemill-texts",
        "voicemill-reels",
        "voicemill-uploads",
    ]
    assert read.default_minimum == "varies_by_storage_class"
    code, out, _ = run("show")
    assert code == 0
    assert "others'" in out
    assert "to Glacier Flexible after 90 days" in out
    told("apply", *NOTHING)
    assert lifecycle.same_rules(store.lifecycle().rules, FOREIGN)
    with pytest.raises(AssertionError):
        assert lifecycle.same_rules(store.lifecycle().rules, FOREIGN[:1])


def test_a_rule_of_others_that_deletes_what_we_keep_is_pointed_out(s3, told, run):
    store = s3("books")
    foreign = {"ID": "tidy", "Status": "Enabled", "Filter": {"Prefix": ""}, "Expiration": {"Days": 7}}
    store.set_lifecycle(Lifecycle([*FOREIGN, foreign]))
    assert told("plan")["meddling"] == ["tidy"]
    code, _, err = run("plan")
    assert code == 0
    assert "Mind the rule 'tidy', which is not ours: all: deleted after 7 days." in err


def test_a_bucket_whose_last_rule_goes_has_none(s3, told):
    store = s3()
    told("apply")
    told("apply", *NOTHING)
    assert store.lifecycle() == Lifecycle()


def test_the_bill_is_reckoned_over_what_is_there(s3, told, run):
    """Worked out by hand, at 2**30 bytes a gigabyte: 8 MiB of audio in two objects of 4 MiB, 1,000 bytes of captions.

    Before: 8 / 1024 * 0.023 = 0.000179688, and 1000 / 2**30 * 0.023 = 0.0000000214. In Instant: 8 / 1024 * 0.004 =
    0.00003125. Two moves: 0.00004, paid back by 0.0001484375 a month in 0.2695 months. 200 kB of takes are deleted.
    """
    store = s3()
    for name in ("a", "b"):
        store.put(f"audio/{name * 2}/{name}.mp3", bytes(4 * 2**20))
    store.put("audio/cc/small.mp3", bytes(100_000))
    store.put("captions/aa/a.vtt", bytes(1000))
    store.put("takes/aa/a.wav", bytes(200_000))
    store.put("somebody/elses.bin", bytes(10_000_000))
    costs = told("plan")["costs"]
    small = 100_000 / 2**30 * 0.023
    assert costs["kinds"].keys() == {"audio", "captions", "takes"}
    assert costs["kinds"]["audio"]["month_before"] == pytest.approx(0.0001796875 + small)
    assert costs["kinds"]["audio"]["month_after"] == pytest.approx(0.00003125 + small)
    assert costs["kinds"]["captions"]["month_after"] == pytest.approx(1000 / 2**30 * 0.023)
    assert costs["kinds"]["takes"]["month_after"] == 0
    assert costs["kinds"]["takes"]["deleted"] == 1
    assert costs["moves_once"] == pytest.approx(0.00004)
    assert costs["months_to_pay"] == pytest.approx(0.00004 / 0.0001484375)
    assert costs["read_back_once"] == pytest.approx(8 / 1024 * 0.03 + 2 / 1000 * 0.01)
    code, out, _ = run("plan")
    assert code == 0
    assert "1 objects are under 128 KiB and stay" in out
    assert "Prices of 2026-03" in out


def test_what_cannot_pay_is_refused_and_the_rest_is_applied(s3, told, run):
    store = s3()
    for number in range(3):
        store.put(f"audio/aa/{number}.mp3", bytes(90_000))
    code, _, err = run("plan", "--audio", "deep=200")
    assert code == 1
    assert "audio-deep is refused: none of the 3 objects under audio/ is as large as 209 KiB" in err
    assert "they are 87 KiB on average" in err
    applied = told("apply", "--audio", "deep=200", code=1)
    assert [refusal["rule"] for refusal in applied["refused"]] == ["audio-deep"]
    assert [rule["ID"] for rule in store.lifecycle().rules] == [
        "voicemill-takes",
        "voicemill-texts",
        "voicemill-reels",
        "voicemill-uploads",
    ]


def test_what_lies_in_an_archive_already_is_not_moved_again(s3, told):
    store = s3(storage_class="DEEP_ARCHIVE")
    store.put("audio/aa/a.mp3", bytes(4 * 2**20))
    costs = told("plan", "--takes", "0", "--texts", "0")["costs"]
    assert costs["moves_once"] == 0
    assert costs["months_to_pay"] is None
    assert costs["month_before"] == costs["month_after"] < 0.00002


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["plan", "--audio", "depp=3"], "is not like instant=30"),
        (["plan", "--audio", "instant=30", "--audio", "deep=40"], "billed for 90"),
        (["plan", "--takes", "-1"], "-1"),
        (["apply", "--pays-within", "0"], "0"),
        (["plan", "--reels", "-1"], "-1"),
    ],
)
def test_a_slip_is_one_line(s3, run, arguments, reason):
    store = s3()
    code, out, err = run(*arguments)
    assert (code, out) == (2, "")
    assert reason in err
    assert store.lifecycle() == Lifecycle()


@pytest.mark.parametrize("command", ["show", "plan", "apply"])
def test_a_folder_has_no_lifecycle_and_says_so(run, monkeypatch, tmp_path, command):
    monkeypatch.setenv("VOICEMILL_STORE_URL", str(tmp_path / "store"))
    code, _, err = run(command)
    assert code == 2
    assert "a folder has no lifecycle" in err
    assert "voicemill storage gc" in err


def test_where_there_is_nothing_it_says_so(run, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    code, _, err = run("plan")
    assert code == 2
    assert "There is no Voicemill state" in err


def test_rules_that_do_not_read_back_are_told_of(s3, monkeypatch):
    store = s3()
    monkeypatch.setattr(lifecycle, "READ_AGAIN", 0)
    monkeypatch.setattr(type(store), "set_lifecycle", lambda self, wanted: None)  # another tool wrote meanwhile
    wanted = [{"ID": "voicemill-x", "Status": "Enabled", "Filter": {"Prefix": "x"}, "Expiration": {"Days": 1}}]
    with pytest.raises(lifecycle.RulesNotKeptError, match="voicemill-x"):
        lifecycle.apply(store, wanted, store.url)


@pytest.mark.parametrize("command", ["plan", "apply"])
def test_takes_that_are_put_into_an_archive_may_not_be_deleted_too_soon(s3, run, command):
    store = s3(storage_class="GLACIER_IR")
    code, out, err = run(command)
    assert (code, out) == (2, "")
    assert "takes are deleted after 30 days, and the store puts everything into GLACIER_IR" in err
    assert "make that at least 90 days" in err
    assert store.lifecycle() == Lifecycle()
    assert run(command, "--takes", "90", "--texts", "90")[0] == 0


@pytest.mark.parametrize("versioning", ["Enabled", "Suspended"])
def test_in_a_bucket_with_versions_they_are_deleted_too(s3, told, run, versioning):
    store = s3(versioning=versioning)
    assert told("plan")["versions"] is True
    applied = told("apply")["rules"]
    assert [lifecycle.canonical(rule) for rule in store.lifecycle().rules] == applied
    stays = {rule["ID"] for rule in applied if rule.get("NoncurrentVersionExpiration") == {"NoncurrentDays": 7}}
    assert stays == {f"voicemill-{name}" for name in ("takes", "texts", "reels")}
    code, out, _ = run("plan")
    assert code == 0
    assert "there is nothing to do" in out
    assert "deleted after 30 days; old versions deleted after 7 days" in out
    assert "The bucket keeps versions: what is deleted stays as one, and is billed, 7 days more." in out


def test_a_bucket_without_versions_has_no_rules_for_them(s3, told, run):
    store = s3()
    assert told("apply")["versions"] is False
    assert not any("NoncurrentVersionExpiration" in rule for rule in store.lifecycle().rules)
    assert "versions" not in "".join(run("plan")[1:])


@pytest.mark.parametrize(("status", "code"), [(403, "AccessDenied"), (501, "NotImplemented")])
def test_where_nobody_tells_whether_there_are_versions_that_is_said(s3, told, run, monkeypatch, status, code):
    store = s3()

    def refuse(**_):
        answer = {"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}
        raise ClientError(answer, "GetBucketVersioning")

    monkeypatch.setattr(type(store), "versions", lambda _: s3_aging.versions(refusing, "bucket"))
    refusing = SimpleNamespace(get_bucket_versioning=refuse)
    assert told("plan")["versions"] is None
    code, _, err = run("plan")
    assert code == 0
    assert "does not tell us whether it keeps versions (s3:GetBucketVersioning)" in err


def test_what_it_means_that_takes_go_is_said_where_they_go(s3, run):
    s3()
    words = "rendered again where their job is assembled again and their engine (espeak) has no codes"
    assert words in run("plan")[1]
    assert words not in run("plan", "--takes", "0")[1]


def test_rules_are_given_back_as_the_server_understood_them(s3, s3_url):
    """Not as they were sent: what reads back equal has been through somebody else's hands."""
    s3()
    with client_of(s3_url) as (client, bucket):
        body = (
            "<LifecycleConfiguration><Rule><ID>a</ID><Status>Enabled</Status><Nonsense>1</Nonsense><Filter><And>"
            "<Prefix>a/</Prefix><ObjectSizeGreaterThan>5</ObjectSizeGreaterThan></And></Filter>"
            "<Expiration><Days>3</Days></Expiration></Rule></LifecycleConfiguration>"
        )
        url = client.generate_presigned_url("put_bucket_lifecycle_configuration", Params={"Bucket": bucket})
        request = urllib.request.Request(url, body.encode(), {"Content-Type": "application/xml"}, method="PUT")
        urllib.request.urlopen(request).close()
        get = client.generate_presigned_url("get_bucket_lifecycle_configuration", Params={"Bucket": bucket})
        with urllib.request.urlopen(get) as answer:
            assert b"Nonsense" not in answer.read()
        (rule,) = client.get_bucket_lifecycle_configuration(Bucket=bucket)["Rules"]
    assert rule == {
        "ID": "a",
        "Status": "Enabled",
        "Filter": {"And": {"Prefix": "a/", "ObjectSizeGreaterThan": 5}},
        "Expiration": {"Days": 3},
    }


@pytest.mark.parametrize("size", [10, 9 * 2**20], ids=["put", "multipart"])
def test_objects_carry_the_stores_tags(s3, s3_url, tmp_path, size):
    (tmp_path / "a").write_bytes(bytes(size))
    s3(tags="project%3Dbooks%26kind%3Da%2520b").upload("audio/a.mp3", tmp_path / "a")
    with client_of(s3_url) as (client, bucket):
        found = client.get_object_tagging(Bucket=bucket, Key="audio/a.mp3")["TagSet"]
    assert {tag["Key"]: tag["Value"] for tag in found} == {"project": "books", "kind": "a b"}


@pytest.mark.parametrize("tags", ["a", "a%3D1%26a%3D2", "%26".join(f"t{number}%3D1" for number in range(11))])
def test_tags_that_are_none_are_refused(s3, tags):
    with pytest.raises(objects.StoreUrlError, match="tags"):
        s3(tags=tags)
