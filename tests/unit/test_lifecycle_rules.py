"""Which lifecycle rules Voicemill wants, and how they live beside those of others."""

from types import SimpleNamespace

import pytest

from storage import lifecycle, prices
from storage.lifecycle import LifecycleSettings
from storage.objects.store import Lifecycle
from storage.prices import Class

PRICES = prices.load()


def aging(prefix="", **tags):
    return SimpleNamespace(bucket_prefix=prefix, tags=tags)


def wants(put_as="STANDARD", **given):
    return lifecycle.wants(LifecycleSettings(**given), PRICES, put_as)


def rules(store=None, **given):
    return lifecycle.rules(store or aging(), wants(**given)[0])


def test_the_rules_of_the_defaults():
    assert rules() == [
        {
            "ID": "voicemill-audio-instant",
            "Status": "Enabled",
            "Filter": {"And": {"Prefix": "audio/", "ObjectSizeGreaterThan": 131_071}},
            "Transitions": [{"Days": 30, "StorageClass": "GLACIER_IR"}],
        },
        {
            "ID": "voicemill-takes",
            "Status": "Enabled",
            "Filter": {"Prefix": "takes/"},
            "Expiration": {"Days": 30},
        },
        {
            "ID": "voicemill-texts",
            "Status": "Enabled",
            "Filter": {"Prefix": "texts/"},
            "Expiration": {"Days": 30},
        },
        {
            "ID": "voicemill-reels",
            "Status": "Enabled",
            "Filter": {"Prefix": "reels/"},
            "Expiration": {"Days": 3},
        },
        {
            "ID": "voicemill-uploads",
            "Status": "Enabled",
            "Filter": {"Prefix": ""},
            "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 2},
        },
    ]


def test_codes_captions_and_manifests_are_kept():
    touched = {want.kind for want in wants(lifecycle_audio={"deep": 1}, lifecycle_audio_expire_days=200)[0]}
    assert {kind and kind.value for kind in touched} == {"audio", "takes", "texts", "reels", None}


def test_tags_and_prefix_are_both_in_every_filter_that_takes_them():
    made = rules(aging("books/", project="books", owner="me"), lifecycle_audio={"deep": 180})
    tags = [{"Key": "owner", "Value": "me"}, {"Key": "project", "Value": "books"}]
    assert [rule["ID"] for rule in made] == [
        f"voicemill-{name}@books" for name in ("audio-deep", "takes", "texts", "reels", "uploads")
    ]
    assert [rule["Filter"].get("And", {}).get("Tags") for rule in made] == [tags, tags, tags, tags, None]
    assert made[4]["Filter"] == {"Prefix": "books/"}  # S3 refuses tags here
    assert made[1]["Filter"]["And"]["Prefix"] == "books/takes/"


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"lifecycle_audio": {"deep": 30, "instant": 300}}, "cannot go from deep to instant"),
        (
            {"lifecycle_audio": {"instant": 30, "deep": 60}},
            "30 days after it came to instant.*at least 120 days",
        ),
        ({"lifecycle_audio": {"instant": 30, "flexible": 30}}, "0 days after it came"),
        ({"lifecycle_audio": {"flexible": 30}, "lifecycle_audio_expire_days": 119}, "is deleted 89 days after"),
        ({"lifecycle_audio": {"deep": 30}, "lifecycle_audio_expire_days": 209}, "billed for 180.*at least 210"),
        ({"lifecycle_audio": {"instant": 30}, "lifecycle_audio_expire_days": 20}, "-10 days after"),
        ({"lifecycle_audio": {"instant": -1}}, "before anything is written"),
    ],
)
def test_what_leaves_a_class_too_early_is_refused(given, reason):
    with pytest.raises(lifecycle.BadAgesError, match=reason):
        wants(**given)


def test_what_stays_just_long_enough_is_not():
    assert len(wants(lifecycle_audio={"instant": 30, "deep": 120}, lifecycle_audio_expire_days=300)[0]) == 7


@pytest.mark.parametrize(
    ("put_as", "given", "reason"),
    [
        (
            "GLACIER_IR",
            {},
            "takes are deleted after 30 days, .*puts everything into GLACIER_IR.* at least 90 days",
        ),
        ("GLACIER_IR", {"lifecycle_takes_days": 90}, "texts are deleted after 30 days"),
        ("GLACIER_IR", {"lifecycle_audio": {"deep": 89}}, "audio moves on after 89 days"),
        ("GLACIER_IR", {"lifecycle_audio": {}, "lifecycle_audio_expire_days": 60}, "audio is deleted after 60"),
        ("STANDARD_IA", {"lifecycle_takes_days": 29}, "takes are deleted after 29 days.* at least 30 days"),
        ("ONEZONE_IA", {"lifecycle_audio": {"instant": 0}}, "audio moves on after 0 days"),
        ("DEEP_ARCHIVE", {"lifecycle_takes_days": 179}, "billed for 180"),
    ],
)
def test_what_leaves_the_class_that_it_was_put_in_too_early_is_refused(put_as, given, reason):
    with pytest.raises(lifecycle.BadAgesError, match=reason):
        wants(put_as, **given)


@pytest.mark.parametrize(
    ("put_as", "given"),
    [
        ("STANDARD", {"lifecycle_takes_days": 1, "lifecycle_audio": {"deep": 0}}),
        ("STANDARD_IA", {}),
        ("INTELLIGENT_TIERING", {"lifecycle_takes_days": 1}),
        (
            "GLACIER_IR",
            {"lifecycle_takes_days": 90, "lifecycle_texts_days": 0},
        ),  # audio lies in Instant already
        ("GLACIER_IR", {"lifecycle_takes_days": 0, "lifecycle_texts_days": 0, "lifecycle_audio": {"deep": 90}}),
    ],
)
def test_what_stays_there_long_enough_is_not(put_as, given):
    assert {want.name for want in wants(put_as, **given)[0]} >= {"reels", "uploads"}


def test_a_move_must_pay_over_the_class_that_objects_were_put_in():
    given = {"lifecycle_audio": {"deep": 90}, "lifecycle_takes_days": 0, "lifecycle_texts_days": 0}
    (move, *_), _ = wants("GLACIER_IR", **given)
    assert (move.source, move.least) == (Class.INSTANT, 1_559_728)


def test_in_a_bucket_with_versions_what_is_deleted_goes_for_good():
    made = lifecycle.rules(aging(), wants(lifecycle_audio_expire_days=300)[0], versions=True)
    stays = {rule["ID"]: rule.get("NoncurrentVersionExpiration") for rule in made}
    assert stays == {
        "voicemill-audio-instant": None,
        **{f"voicemill-{name}": {"NoncurrentDays": 7} for name in ("audio-expire", "takes", "texts", "reels")},
        "voicemill-uploads": None,
    }


def test_a_short_stay_must_pay_in_that_time():
    """90 days are 3 months: 0.03 / 1000 / 3 * 2**30 = 10,737.4; plus 306.4 of overhead, over 0.0194: 569,268 bytes."""
    (move, *_), _ = wants(lifecycle_audio={"flexible": 30}, lifecycle_audio_expire_days=120)
    assert move.least == 569_268


def test_a_class_that_costs_no_less_is_refused():
    dear = PRICES.model_copy(update={"storage": {**PRICES.storage, Class.DEEP: 0.023}})
    found, refused = lifecycle.wants(LifecycleSettings(lifecycle_audio={"deep": 30}), dear)
    assert [want.name for want in found] == ["takes", "texts", "reels", "uploads"]
    assert [refusal.reason for refusal in refused] == [
        "deep costs no less than standard, by the prices of 2026-03"
    ]


def test_rules_of_others_are_kept_whatever_they_are_called():
    store = aging("books/")
    foreign = [
        {"ID": "voicemill", "Status": "Enabled", "Filter": {"Prefix": "a"}, "Expiration": {"Days": 1}},
        {"ID": "voicemill-takes", "Status": "Enabled", "Filter": {"Prefix": ""}, "Expiration": {"Days": 9}},
        {
            "ID": "voicemill-takes@films",
            "Status": "Enabled",
            "Filter": {"Prefix": "films/"},
            "Expiration": {"Days": 9},
        },
        {"Status": "Disabled", "Prefix": "old", "Expiration": {"Days": 5}},
    ]
    mine = {
        "ID": "voicemill-takes@books",
        "Status": "Enabled",
        "Filter": {"Prefix": "x"},
        "Expiration": {"Days": 9},
    }
    gone = {**mine, "ID": "voicemill-long-gone@books"}
    wanted = rules(store)
    found = lifecycle.diff(store, Lifecycle([*foreign, mine, gone], "varies_by_storage_class"), wanted, "")
    assert [rule["ID"] for rule in found.changed] == ["voicemill-takes@books"]
    assert [rule["ID"] for rule in found.removed] == ["voicemill-long-gone@books"]
    assert len(found.added) == 4
    kept, legacy = found.after.rules[:3], found.after.rules[3]
    assert kept == foreign[:3]
    assert legacy == {"Status": "Disabled", "Filter": {"Prefix": "old"}, "Expiration": {"Days": 5}}
    assert found.after.rules[4:] == wanted
    assert found.after.default_minimum == "varies_by_storage_class"  # theirs to choose


def test_what_is_as_wanted_is_left_alone():
    store = aging(owner="me", project="books")
    wanted = rules(store)
    again = [{**rule, "Filter": dict(rule["Filter"])} for rule in wanted]
    tags = again[0]["Filter"]["And"]["Tags"]
    again[0]["Filter"]["And"] = {**again[0]["Filter"]["And"], "Tags": tags[::-1]}
    assert lifecycle.diff(store, Lifecycle(again), wanted, "").is_empty


def test_more_rules_than_s3_takes_are_refused():
    many = [{"ID": str(number), "Status": "Enabled", "Filter": {}} for number in range(997)]
    with pytest.raises(lifecycle.TooManyRulesError, match="would have 1002"):
        lifecycle.diff(aging(), Lifecycle(many), rules(), "s3://bucket")


def test_a_store_with_a_long_prefix_has_ids_that_s3_takes():
    made = rules(aging("a/" * 400))
    assert all(len(rule["ID"]) <= 255 and lifecycle.is_ours(aging("a/" * 400), rule) for rule in made)
    assert not lifecycle.is_ours(aging("a/" * 399), made[0])
