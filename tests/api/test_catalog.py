from starlette.testclient import TestClient

from app.schemas import Model, ModelList
from tests.fakes import FakeModel


def test_the_models_are_listed_with_the_default_one(client: TestClient) -> None:
    content = client.get("/models").json()
    assert ModelList.model_validate(content).model_dump() == content
    assert content["default"] == "news-en"
    assert [each["name"] for each in content["models"]] == ["news-en"]


def test_a_model_tells_its_limits_defaults_and_card(client: TestClient, model: FakeModel) -> None:
    content = client.get("/models/news-en").json()
    assert Model.model_validate(content).model_dump() == content
    assert content["digest"] == model.info.digest
    assert content["card"] == model.info.card
    assert content["decoding"] == "batched"
    assert content["limits"] == {"max_source_tokens": 60, "max_summary_tokens": 64, "max_beams": 8}
    assert content["default_parameters"]["num_beams"] == model.info.defaults.num_beams
    assert content["attention"] == {"layers": 1, "heads": 1, "default_layers": [0], "default_heads": [0]}


def test_an_unknown_model_is_404_by_name(client: TestClient) -> None:
    response = client.get("/models/nope")
    assert response.status_code == 404
    assert response.json()["error_type"] == "model-not-found"
    assert "'nope'" in response.json()["detail"]
