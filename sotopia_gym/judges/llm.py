"""A language model as judge."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeVar

from sotopia_gym.episodes.dimensions import DIMENSIONS, Dimension
from sotopia_gym.episodes.schema import DimensionScore, Episode, Judgement, TurnCredit, Usage
from sotopia_gym.errors import BudgetExceededError, ConfigError, JudgeError, ModelError
from sotopia_gym.judges.base import Judge
from sotopia_gym.judges.credit import credit_messages, credit_schema, read_credit
from sotopia_gym.judges.outcome import beside
from sotopia_gym.judges.prompt import (
    active_agents,
    answer_schema,
    judge_messages,
    prompt_version,
    read_answer,
)
from sotopia_gym.llm.answers import ask
from sotopia_gym.llm.chat import ChatModel, Completion, Message
from sotopia_gym.llm.client import ChatRequest, run_sync

GPT4_JUDGE: Final = "gpt-4o-2024-08-06"
"""The model that ``judge="auto"`` and ``judge="gpt-4"`` stand for: one dated snapshot."""

TYPICAL_TOKENS: Final = (2200, 1100)
"""Tokens read and written for one episode of 20 turns and two agents, for estimates of cost."""

_Answer = TypeVar("_Answer")


class LLMJudge(Judge):
    """Asks a chat model for reasoning and a score, for each agent and dimension.

    The model answers at temperature 0 to a JSON schema, and its answer is read strictly. A bad
    answer is sent back with what is wrong with it, and other failures are tried again; when all
    ``attempts`` have failed, or asking again cannot help, the episode is unscored with the cause
    of the last, and never has a made-up score. A spent budget is raised instead: it says nothing
    about the episode.

    Whoever neither said nor did anything is not shown to the model but scored by rule: every
    dimension gets the value nearest to 0 in its range, so that silence earns nothing and costs
    nothing.

    Args:
        model: The model.
        dimensions: What to score; by default the seven of SOTOPIA-Eval.
        one_call: Whether all agents are scored in one call; otherwise each in a call of its own.
        attempts: Answers asked for, in all, before an episode is unscored.
        credit: Whether to also ask how much each turn did for its agent's goal (0 to 3), which
            turns the reward of an episode into rewards of turns
            (:func:`sotopia_gym.judges.credit.turn_rewards`).
        max_reasoning: Longest reasoning in characters, for models that would not stop.
        max_tokens: Longest answer in tokens.

    Attributes:
        model: Who is asked.
    """

    def __init__(
        self,
        model: ChatModel,
        *,
        dimensions: Sequence[Dimension] = tuple(DIMENSIONS.values()),
        one_call: bool = True,
        attempts: int = 3,
        credit: bool = False,
        max_reasoning: int | None = None,
        max_tokens: int = 4096,
    ) -> None:
        if attempts < 1:
            raise ConfigError(f"attempts must be at least 1, got {attempts}.")
        self.name = model.name
        self.dimensions = tuple(dimension.name for dimension in dimensions)
        self.model, self._attempts = model, attempts
        self._asked, self._one_call, self._credit = tuple(dimensions), one_call, credit
        self._max_reasoning = max_reasoning
        self.prompt = prompt_version(self._asked, one_call=one_call, credit=credit)
        self._settings: dict[str, Any] = {"temperature": 0.0, "seed": 0, "max_tokens": max_tokens}

    def judge(self, episode: Episode) -> Judgement:
        return run_sync(self.ajudge(episode))

    async def ajudge(self, episode: Episode) -> Judgement:
        if not episode.has_transcript:
            raise JudgeError(
                f"episode {episode.episode_id} has scores but no transcript: there is nothing to "
                "judge. Import it together with a file that holds the conversation."
            )
        active = active_agents(episode)
        scores = {agent: self._by_rule() for agent in episode.task.agents if agent not in active}
        spent = _Spent(self.prompt)
        credits: dict[str, tuple[TurnCredit, ...]] = {}
        try:
            for agents in self._together(active):
                scores |= await self._scores(episode, agents, spent)
            if self._credit:
                for agent in active:
                    credits[agent] = await self._credits(episode, agent, spent)
        except BudgetExceededError:
            raise  # nothing is wrong with this episode: it is to be judged when there is money
        except ModelError as error:
            return beside(Judgement(judge=self.name, error=str(error), **spent.record()), episode)
        return beside(
            Judgement(
                judge=self.name,
                scores={agent: scores[agent] for agent in episode.task.agents},
                credits=credits,
                **spent.record(),
            ),
            episode,
        )

    def requests(self, episode: Episode) -> list[ChatRequest]:
        """What judging ``episode`` asks first, for having it answered by a batch.

        Once the answers are in the model's cache, :meth:`judge` finds them there. What depends on
        an answer (asking again) is not among them.
        """
        active = active_agents(episode) if episode.has_transcript else []
        asked = [
            (judge_messages(episode, agents, self._asked), self._schema(agents))
            for agents in self._together(active)
        ]
        if self._credit:
            for agent in active:
                messages, turns = credit_messages(episode, agent)
                asked.append((messages, credit_schema(turns)))
        return [
            ChatRequest(messages=messages, schema=schema, **self._settings)
            for messages, schema in asked
        ]

    def close(self) -> None:
        self.model.close()

    def _together(self, active: list[str]) -> list[list[str]]:
        """The agents of each call."""
        if not active:
            return []
        return [active] if self._one_call else [[agent] for agent in active]

    def _schema(self, agents: Sequence[str]) -> dict[str, Any]:
        return answer_schema(agents, self._asked, self._max_reasoning)

    def _by_rule(self) -> dict[str, DimensionScore]:
        return {
            dimension.name: DimensionScore(
                score=float(min(max(0, dimension.low), dimension.high)),
                reasoning="By rule: neither said nor did anything.",
            )
            for dimension in self._asked
        }

    async def _scores(
        self, episode: Episode, agents: Sequence[str], spent: _Spent
    ) -> Mapping[str, dict[str, DimensionScore]]:
        return await self._ask(
            judge_messages(episode, agents, self._asked),
            self._schema(agents),
            lambda text: read_answer(text, agents, self._asked),
            spent,
        )

    async def _credits(self, episode: Episode, agent: str, spent: _Spent) -> tuple[TurnCredit, ...]:
        messages, turns = credit_messages(episode, agent)
        return await self._ask(
            messages, credit_schema(turns), lambda text: read_credit(text, turns), spent
        )

    async def _ask(
        self,
        messages: Sequence[Message],
        schema: Mapping[str, object],
        read: Callable[[str], _Answer],
        spent: _Spent,
    ) -> _Answer:
        return await ask(
            self.model,
            messages,
            read,
            schema=schema,
            attempts=self._attempts,
            settings=self._settings,
            heard=spent.add,
        )


class _Spent:
    """What judging one episode has used."""

    def __init__(self, prompt: str) -> None:
        self.usage = Usage()
        self._prompt = prompt
        self._models: set[str] = set()

    def add(self, completion: Completion) -> None:
        self.usage += Usage.of(completion)
        self._models.add(" ".join(filter(None, (completion.model, completion.fingerprint))))

    def record(self) -> dict[str, Any]:
        """The fields of a judgement that say who answered and what it cost."""
        return {
            "usage": self.usage,
            "models": tuple(sorted(filter(None, self._models))),
            "prompt": self._prompt,
        }
