"""A store with shards is the same dictionary as one without."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import rule

from spq.index.shards.open_store import open_store
from spq.index.shards.sharded_store import ShardedStore
from spq.index.shards.sharding import to_database, to_shards
from test_store import StoreIsADictionary


class ShardedStoreIsADictionary(StoreIsADictionary):
    """As for a store, and items move into shards and back at any time."""

    @rule(items=st.sampled_from([1, 2, 100]))
    def into_shards(self, items: int) -> None:
        to_shards(self.store, items)
        self.reopen()

    @rule()
    def into_the_database(self) -> None:
        if isinstance(self.store, ShardedStore):
            to_database(self.store)
            self.reopen()

    @rule()
    def reopen(self) -> None:
        self.store.close()
        self.store = open_store(self.folder)


ShardedStoreIsADictionary.TestCase.settings = settings(max_examples=6, stateful_step_count=12, deadline=None)
test_a_sharded_store_is_a_dictionary = ShardedStoreIsADictionary.TestCase
