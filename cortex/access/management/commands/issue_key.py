"""`manage.py issue_key`: a key for a program, shown once."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from cortex.access.models import ApiKey, Person, Role, Scope


class Command(BaseCommand):
    help = "Issues an API key for a person and prints its secret, once."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("username")
        parser.add_argument("--name", default="command line")
        parser.add_argument(
            "--make-operator", action="store_true", help="make the person, an operator who cannot sign in"
        )
        parser.add_argument("--scope", action="append", choices=Scope.values)

    def handle(
        self, *args: Any, username: str, name: str, scope: list[str] | None, make_operator: bool, **options: Any
    ) -> None:
        if make_operator:
            Person.objects.get_or_create(username=username, defaults={"role": Role.OPERATOR, "password": "!"})
        owner = Person.objects.filter(username=username).first()
        if owner is None:
            raise CommandError(f"There is no person named {username!r}. Make the first one with: manage.py setup_link")
        _, secret = ApiKey.objects.issue(owner, name, scope or list(Scope.values))
        self.stdout.write(secret)
