"""The models that a worker can be configured with.

`build_model` turns the setting `ABEYANCE_MODEL` into a Strands model. Temporal retries failed turns, so every
client is built to try once: a retry that sleeps inside an activity is invisible and cannot be cancelled.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from abeyance.errors import ConfigurationError

if TYPE_CHECKING:
    import boto3
    from strands.models import Model

MODEL_READ_TIMEOUT = 300
"""Seconds without a byte from the model before the call is given up and retried by Temporal."""

_session_lock = threading.Lock()
_session: boto3.Session | None = None


def build_model(setting: str) -> Model:
    """The model that `setting` names, new, with no retries of its own.

    Args:
        setting: "offline", or "<provider>:<model id>".

    Raises:
        ConfigurationError: if the provider is unknown, its extra is not installed, or it refuses its arguments.
    """
    provider, _, model_id = setting.partition(":")
    if setting == "offline":
        from abeyance.models.offline import OfflineModel

        return OfflineModel()
    if provider not in _PROVIDERS:
        raise ConfigurationError(
            f"Unknown model {setting!r}. ABEYANCE_MODEL is 'offline' or '<provider>:<model id>', "
            f"with a provider of: {', '.join(sorted(_PROVIDERS))}."
        )
    if not model_id:
        raise ConfigurationError(f"ABEYANCE_MODEL={setting!r} lacks the model id: write {provider}:<model id>.")
    try:
        return _PROVIDERS[provider](model_id)
    except ImportError as error:
        raise ConfigurationError(
            f"The provider {provider!r} needs a package that is not installed ({error}). "
            f"Install it with: pip install 'strands-agents[{provider.partition('-')[0]}]'"
        ) from error
    except ConfigurationError:
        raise
    except Exception as error:
        raise ConfigurationError(
            f"The model {setting!r} cannot be set up: {type(error).__name__}: {error}. "
            "Region, address and keys come from the provider's usual environment variables."
        ) from error


def _bedrock(model_id: str) -> Model:
    import boto3
    from botocore.config import Config
    from strands.models import BedrockModel

    global _session  # noqa: PLW0603 - boto3's session is expensive, and making clients from it is not thread-safe
    with _session_lock:
        _session = _session or boto3.Session()
        model = BedrockModel(
            boto_session=_session,
            boto_client_config=Config(retries={"total_max_attempts": 1}, read_timeout=MODEL_READ_TIMEOUT),
            model_id=model_id,
        )
    model.client.meta.events.register("after-call.bedrock-runtime.*", _forget_refused_keys)
    return model


def _forget_refused_keys(http_response: Any, **_: Any) -> None:
    """A session keeps the keys that it has once read; a person may have renewed them by the next attempt."""
    global _session  # noqa: PLW0603 - see above
    if http_response.status_code in {401, 403}:
        with _session_lock:
            _session = None


def _with_client_args(module: str, name: str, **client_args: Any) -> Callable[[str], Model]:
    def build(model_id: str) -> Model:
        from importlib import import_module

        model: Model = getattr(import_module(f"strands.models.{module}"), name)(
            **({"client_args": client_args} if client_args else {}), model_id=model_id
        )
        return model

    return build


def _ollama(model_id: str) -> Model:
    from strands.models.ollama import OllamaModel

    return OllamaModel(os.environ.get("OLLAMA_HOST"), model_id=model_id)


def _llamacpp(model_id: str) -> Model:
    from strands.models.llamacpp import LlamaCppModel

    return LlamaCppModel(os.environ.get("LLAMACPP_BASE_URL", "http://localhost:8080"), model_id=model_id)


def _sagemaker(endpoint: str) -> Model:
    from botocore.config import Config
    from strands.models.sagemaker import SageMakerAIModel

    return SageMakerAIModel(
        endpoint_config={"endpoint_name": endpoint},
        payload_config={},
        boto_client_config=Config(retries={"total_max_attempts": 1}, read_timeout=MODEL_READ_TIMEOUT),
    )


_PROVIDERS: dict[str, Callable[[str], Model]] = {
    "anthropic": _with_client_args("anthropic", "AnthropicModel", max_retries=0),
    "bedrock": _bedrock,
    "gemini": _with_client_args("gemini", "GeminiModel"),
    "litellm": _with_client_args("litellm", "LiteLLMModel", num_retries=0),
    "llamaapi": _with_client_args("llamaapi", "LlamaAPIModel", max_retries=0),
    "llamacpp": _llamacpp,
    "mistral": _with_client_args("mistral", "MistralModel"),
    "ollama": _ollama,
    "openai": _with_client_args("openai", "OpenAIModel", max_retries=0),
    "openai-responses": _with_client_args("openai_responses", "OpenAIResponsesModel", max_retries=0),
    "sagemaker": _sagemaker,
    "writer": _with_client_args("writer", "WriterModel", max_retries=0),
}
