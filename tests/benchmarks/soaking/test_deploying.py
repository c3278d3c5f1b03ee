"""A deployed checkpoint is whole, and another one."""

from pathlib import Path

from app.models import registry
from app.models.base import DecodingOptions
from benchmarks.soaking.deploying import Store
from tests.models.lstm.checkpoints import write_checkpoint


def test_a_deployed_checkpoint_has_another_digest_and_is_otherwise_the_same(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "store", "one")
    store = Store(tmp_path / "ours", tmp_path / "store", ["one"])
    old = registry.load(store.folder, "one")
    assert store.digests == {old.info.digest}
    store.deploy()
    new = registry.load(store.folder, "one")
    assert store.digests == {new.info.digest} != {old.info.digest}
    assert new.tokenize("a bridge").ids == old.tokenize("a bridge").ids
    assert new.info.defaults == old.info.defaults != DecodingOptions()
    store.deploy()
    assert store.digests.isdisjoint({old.info.digest, new.info.digest})
    assert registry.available(store.folder) == ["one"]
