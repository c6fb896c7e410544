"""Who may do what in the UI: strangers nothing, viewers look, operators change models, administrators everything."""

import pytest
from django.test import Client
from django.urls import reverse

from cortex.access import setup
from cortex.access.models import ApiKey, Person, Scope
from cortex.catalog.models import Model, Order
from cortex.ui.urls import urlpatterns
from tests import scene
from tests.ui.conftest import SignIn

OPEN = {"setup", "login"}
ARGUMENTS = {"name": "bge-m3", "id": 1}
VERBS = ["start", "stop", "restart", "remove"]


def addresses() -> list[tuple[str, str]]:
    """Every address of the UI by its name."""
    found = []
    for pattern in urlpatterns:
        wanted = pattern.pattern.converters
        found.append((pattern.name or "", reverse(f"ui:{pattern.name}", kwargs={k: ARGUMENTS[k] for k in wanted})))
    return found


@pytest.mark.parametrize(("name", "address"), addresses())
@pytest.mark.parametrize("method", ["get", "post"])
def test_a_stranger_is_sent_away_from_every_address(
    client: Client, alice: Person, name: str, address: str, method: str
) -> None:
    scene.whole_fleet()
    before = list(Model.objects.values_list("name", "desired", "turn"))
    answer = getattr(client, method)(address)
    if name not in OPEN:
        assert answer.status_code in (302, 405)
        assert answer.status_code == 405 or answer["Location"].startswith("/login")
    assert list(Model.objects.values_list("name", "desired", "turn")) == before


@pytest.mark.parametrize(("name", "address"), addresses())
def test_before_there_is_an_administrator_everything_leads_to_the_setup_page(
    client: Client, db: None, name: str, address: str
) -> None:
    answer = client.get(address)
    if name in ("setup", "revoke", "logout"):
        return
    assert (answer.status_code, answer["Location"]) == (302, "/setup")


def test_a_part_of_a_page_sends_a_stranger_with_htmx_s_own_redirect(client: Client, alice: Person) -> None:
    answer = client.get("/", headers={"HX-Request": "true"})
    assert (answer.status_code, answer["HX-Redirect"]) == (200, "/login?next=/")


@pytest.mark.parametrize("verb", VERBS)
def test_a_viewer_gives_no_orders(at: SignIn, charlie: Person, verb: str) -> None:
    scene.whole_fleet()
    answer = at(charlie).post(f"/models/bge-m3/{verb}")
    assert answer.status_code == 403
    assert b"Your role is viewer" in answer.content
    assert not Order.objects.filter(by=charlie).exists()


def test_a_viewer_s_refusal_reaches_a_part_of_a_page_as_a_toast(at: SignIn, charlie: Person) -> None:
    scene.whole_fleet()
    answer = at(charlie).post("/models/bge-m3/stop", headers={"HX-Request": "true"})
    assert (answer.status_code, answer["HX-Reswap"]) == (403, "none")
    assert "Your role is viewer" in answer["HX-Trigger"]


def test_a_viewer_sees_no_button_that_changes_anything(at: SignIn, charlie: Person) -> None:
    scene.whole_fleet()
    for page in ("/", "/models/bge-m3"):
        words = at(charlie).get(page).content.decode()
        assert "bge-m3" in words
        for verb in (*VERBS, "edit"):
            assert f"/models/bge-m3/{verb}" not in words
        assert "/define" not in words


@pytest.mark.parametrize("path", ["/define", "/models/bge-m3/edit"])
def test_a_viewer_defines_nothing(at: SignIn, charlie: Person, path: str) -> None:
    scene.whole_fleet()
    assert at(charlie).get(path).status_code == 403
    assert at(charlie).post(path, {"name": "x", "engine": "llamacpp"}).status_code == 403


@pytest.mark.parametrize("verb", VERBS)
def test_an_operator_gives_orders(at: SignIn, bob: Person, verb: str) -> None:
    scene.whole_fleet()
    assert at(bob).post(f"/models/bge-m3/{verb}").status_code == 302
    assert Order.objects.get(by=bob).verb == verb


def test_an_order_by_get_only_asks(at: SignIn, bob: Person) -> None:
    scene.whole_fleet()
    answer = at(bob).get("/models/bge-m3/remove")
    assert b"1 replica of it serves now." in answer.content
    assert not Order.objects.filter(by=bob).exists()


def test_writes_need_the_form_s_own_token(alice: Person) -> None:
    scene.whole_fleet()
    client = Client(enforce_csrf_checks=True)
    client.force_login(alice)
    assert client.post("/models/bge-m3/stop").status_code == 403
    assert Model.objects.get(name="bge-m3").desired == "running"


def test_people_see_and_revoke_their_own_keys_and_administrators_everybody_s(
    at: SignIn, alice: Person, bob: Person, charlie: Person
) -> None:
    key, _ = ApiKey.objects.issue(bob, "bob's program", [Scope.INFER])
    assert b"bob&#x27;s program" not in at(charlie).get("/keys").content
    assert at(charlie).post(f"/keys/{key.id}/revoke").status_code == 404
    assert b"bob&#x27;s program" in at(alice).get("/keys").content
    assert at(alice).post(f"/keys/{key.id}/revoke").status_code == 302
    key.refresh_from_db()
    assert key.revoked_at


def test_a_setup_link_works_once(client: Client, db: None) -> None:
    token = setup.new_token()
    words = {"token": token, "username": "alice", "password1": "correct horse", "password2": "correct horse"}
    assert client.post("/setup", words)["Location"] == "/"
    assert client.get("/").status_code == 200
    assert Client().post("/setup", {**words, "username": "mallory"})["Location"] == "/login"
    assert Person.objects.get().username == "alice"


def test_a_wrong_setup_link_says_where_to_find_the_right_one(client: Client, db: None) -> None:
    answer = client.get("/setup?token=guess")
    assert answer.status_code == 403
    assert b"./dev setup-link" in answer.content
    assert b"manage.py setup_link" in answer.content


def test_a_weak_password_is_refused_and_the_link_stays_good(client: Client, db: None) -> None:
    token = setup.new_token()
    words = {"token": token, "username": "alice", "password1": "password", "password2": "password"}
    assert client.post("/setup", words).status_code == 422
    assert setup.is_valid(token)


def test_a_wrong_password_is_refused_with_words(client: Client, alice: Person) -> None:
    answer = client.post("/login", {"username": "alice", "password": "guess"})
    assert answer.status_code == 422
    assert b'role="alert"' in answer.content
