"""Agents play roles; a spec string names one everywhere."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sotopia_gym.agents.base import Agent
from sotopia_gym.errors import UnknownIdError, did_you_mean

if TYPE_CHECKING:
    from sotopia_gym.llm.client import ClientOptions

__all__ = ["Agent", "from_spec"]

_SPECS: Final = (
    "scripted/NAME",
    "local/MODEL",
    "local/PATH.gguf",
    "hf/PATH",
    "human",
    "MODEL@http://HOST:PORT/v1",
    "gpt-4o",
)


def from_spec(spec: str | Agent, options: ClientOptions | None = None) -> Agent:
    """The agent that ``spec`` names.

    Args:
        spec: An agent, which is returned as it is, or

            - ``"scripted/NAME"``: see :func:`sotopia_gym.agents.scripted.scripted`;
            - ``"local/smollm2-135m"``: the embedded language model;
            - ``"local/PATH.gguf"``: a GGUF file, such as
              :func:`sotopia_gym.llm.convert.to_gguf` makes of a policy, with llama.cpp. It is
              asked as the embedded model is: with the prompt ``small``, at temperature 0.7, for
              at most 96 tokens and 200 characters, and never twice;
            - ``"hf/PATH"``: a policy, the model of transformers in a folder; see
              :class:`sotopia_gym.agents.policy.PolicyAgent`;
            - ``"MODEL@http://HOST:PORT/v1"``: a model behind any OpenAI-compatible server;
            - ``"gpt-..."`` and other models of OpenAI;
            - ``"human"``: a person at the terminal.

            Language models may be given a prompt: ``"gpt-4o?prompt=sotopia"``
            (:data:`sotopia_gym.agents.prompts.PROMPTS`).

        options: How language models behind an address are called.

    Raises:
        UnknownIdError: If no agent has this name.
        ModelError: If a model is not on this machine; the message says how to get it.
        MissingDependencyError: If an extra is missing.
    """
    if isinstance(spec, Agent):
        return spec
    if spec == "human":
        from sotopia_gym.agents.human import HumanAgent

        return HumanAgent()
    kind, _, name = spec.partition("/")
    if kind == "scripted":
        from sotopia_gym.agents.scripted import scripted

        return scripted(name)
    model, _, prompt = spec.partition("?prompt=")
    if kind == "hf":
        return _policy(model, prompt)
    return _language_model(model, prompt, options)


def _policy(model: str, prompt_name: str) -> Agent:
    from sotopia_gym.agents.policy import PolicyAgent
    from sotopia_gym.agents.prompts import PROMPTS

    if prompt_name and prompt_name not in PROMPTS:
        raise UnknownIdError(f"no prompt {prompt_name!r}. {did_you_mean(prompt_name, PROMPTS)}")
    name = f"{model}?prompt={prompt_name}" if prompt_name else model
    prompt = PROMPTS[prompt_name or "chat"]
    return PolicyAgent.load(model.removeprefix("hf/"), prompt=prompt, name=name)


def _language_model(model: str, prompt_name: str, options: ClientOptions | None) -> Agent:
    from sotopia_gym.agents.llm import LLMAgent
    from sotopia_gym.agents.prompts import PROMPTS
    from sotopia_gym.llm.spec import chat_model, is_chat_model

    if prompt_name and prompt_name not in PROMPTS:
        raise UnknownIdError(f"no prompt {prompt_name!r}. {did_you_mean(prompt_name, PROMPTS)}")
    if not is_chat_model(model):
        raise UnknownIdError(f"no agent {model!r}. {did_you_mean(model, _SPECS)}")
    chat = chat_model(model, options)
    if model.startswith("local/"):
        # What the smallest models can do, and what keeps them from rambling.
        agent = LLMAgent(
            chat,
            prompt=PROMPTS[prompt_name or "small"],
            temperature=0.7,
            max_tokens=96,
            max_argument=200,
            repairs=0,
        )
    else:
        agent = LLMAgent(chat, prompt=PROMPTS[prompt_name or "chat"])
    if prompt_name:
        agent.name = f"{model}?prompt={prompt_name}"
    return agent
