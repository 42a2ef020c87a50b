"""Funnels and annotations in MongoDB: each belongs to its site, and an unreachable store is said to be so."""

from concurrent.futures import ThreadPoolExecutor
from datetime import date
from typing import Any

import pytest
from pymongo import MongoClient
from pymongo.database import Database

from analytics.dashboards.annotations import Annotation, AnnotationStore
from analytics.dashboards.funnels import FunnelStore, SavedFunnel
from analytics.unavailable import Unavailable
from footfall.embedded_servers import pick_port

STEPS = ({"page": "/"}, {"event": "signup", "label": "Signed up"})
DAY = date(2026, 11, 18)


def test_a_funnel_is_read_as_it_was_saved_and_belongs_to_its_site(database: Database[dict[str, Any]]):
    store = FunnelStore(database)
    funnel = SavedFunnel("shop", "Sign up", STEPS, "7d")
    with ThreadPoolExecutor(4) as pool:  # a form that is sent several times at once
        list(pool.map(store.save, [funnel] * 8))
    store.save(SavedFunnel("other", "Sign up", STEPS, "visit"))
    assert store.list("shop") == [funnel]
    (other,) = store.list("other")
    assert other.id != funnel.id
    store.remove("shop", other.id)
    store.remove("shop", funnel.id)
    assert (store.list("shop"), store.list("other")) == ([], [other])


def test_annotations_are_those_of_the_days_in_order(database: Database[dict[str, Any]]):
    store = AnnotationStore(database)
    later, first = Annotation("shop", date(2026, 11, 20), "b"), Annotation("shop", DAY, "a")
    for each in (later, first, Annotation("shop", date(2026, 12, 1), "c"), Annotation("other", DAY, "d")):
        store.add(each)
    assert store.list("shop", DAY, date(2026, 11, 30)) == [first, later]


@pytest.mark.usefixtures("usual_limits")
def test_an_unreachable_mongodb_is_unavailable():
    client = MongoClient[dict[str, Any]](f"mongodb://127.0.0.1:{pick_port(0)}", serverSelectionTimeoutMS=100)
    funnels, annotations = FunnelStore(client["x"]), AnnotationStore(client["x"])
    for ask in (
        lambda: funnels.list("shop"),
        lambda: funnels.save(SavedFunnel("shop", "a", STEPS, "visit")),
        lambda: funnels.remove("shop", "a"),
        lambda: annotations.list("shop", DAY, DAY),
        lambda: annotations.add(Annotation("shop", DAY, "a")),
        lambda: annotations.remove("shop", "a"),
    ):
        with pytest.raises(Unavailable):
            ask()
    client.close()
