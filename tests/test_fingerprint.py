import jax

from jaxnets.fingerprint import differences, fingerprint, processors


def test_it_names_versions_devices_and_flags(monkeypatch):
    monkeypatch.setenv("JAX_DEFAULT_MATMUL_PRECISION", "highest")
    found = fingerprint(jax.devices()[:2])
    assert found["jax"] == jax.__version__
    assert (found["devices"], found["device"], found["processors"]) == (2, "cpu", processors())
    assert found["JAX_DEFAULT_MATMUL_PRECISION"] == "highest"


def test_only_what_differs_is_named():
    assert differences({"jax": "1", "processors": 2}, {"jax": "1", "processors": 2}) == ""
    told = differences({"jax": "1", "processors": 2}, {"jax": "1", "processors": 4, "XLA_FLAGS": "--a"})
    assert told == "processors 4, was 2, XLA_FLAGS --a, was unset"


def test_what_says_how_is_in_it_and_what_says_where_is_not(monkeypatch):
    before = fingerprint(jax.devices())
    for name in ("JAX_COMPILATION_CACHE_DIR", "JAX_LOCAL_DEVICE_IDS", "JAX_COORDINATOR_ADDRESS", "JAXNETS_PULSE"):
        monkeypatch.setenv(name, "1")
    assert fingerprint(jax.devices()) == before
    monkeypatch.setenv("JAX_THREEFRY_PARTITIONABLE", "0")
    assert differences(before, fingerprint(jax.devices())) == "JAX_THREEFRY_PARTITIONABLE 0, was unset"


def test_another_processor_is_told(monkeypatch):
    before = fingerprint(jax.devices())
    monkeypatch.setattr("jaxnets.fingerprint.instructions", lambda: "older")
    assert differences(before, fingerprint(jax.devices())).startswith("instructions older, was ")
