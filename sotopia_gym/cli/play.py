"""``sotopia-gym demo`` and ``sotopia-gym play``: episodes in the terminal."""

from __future__ import annotations

import itertools
import secrets
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sotopia_gym.cli.annotate import HostOption, PortOption, UrlOption

if TYPE_CHECKING:
    from rich.console import Console

    from sotopia_gym.episodes.schema import Episode
    from sotopia_gym.web.address import Address
    from sotopia_gym.web.live import Setting

_PARTNERS = ("scripted/fair", "scripted/generous", "scripted/firm", "scripted/expert")

Out = Annotated[
    Path | None, typer.Option(help="Journal to append the episodes to; by default a new one.")
]


def demo(
    episodes: Annotated[int, typer.Option(min=1, help="How many episodes.")] = 8,
    agent: Annotated[str, typer.Option(help="Who plays.")] = "local/smollm2-135m",
    suite: Annotated[str, typer.Option(help="The suite to play.")] = "starter",
    judge: Annotated[str, typer.Option(help="Who scores.")] = "outcome",
    max_turns: Annotated[int, typer.Option(min=2, help="Turns an episode lasts at most.")] = 10,
    seed: Annotated[int, typer.Option(help="Seed of everything random.")] = 0,
    out: Out = None,
) -> None:
    """Watch a language model bargain with scripted partners, in both roles."""
    from rich.console import Console

    from sotopia_gym import agents
    from sotopia_gym.envs.parallel import SocialEnv
    from sotopia_gym.rollout.play import play as play_episode

    console = Console(highlight=False)
    player = agents.from_spec(agent)
    env = SocialEnv(suite, judge=judge, max_turns=max_turns, render_mode="human")
    console.print(f"{player.name} plays {episodes} episodes of {suite}; judge: {env.judge_name}.")
    roles = itertools.cycle(env.possible_agents)
    # Both roles against a partner before the next partner.
    partners = itertools.cycle([p for p in _PARTNERS for _ in env.possible_agents])

    def one(index: int) -> Episode:
        role, partner = next(roles), next(partners)
        console.rule(f"Episode {index + 1} of {episodes}: {player.name} as {role}, {partner}")
        cast = {r: player if r == role else partner for r in env.possible_agents}
        return play_episode(env, cast, seed=seed + index)

    _run(console, episodes, one, out, "demo")


def play(
    role: Annotated[str, typer.Option(help="Your role.")] = "agent_0",
    partner: Annotated[str, typer.Option(help="Who plays the others.")] = "scripted/fair",
    suite: Annotated[str, typer.Option(help="The suite to play.")] = "starter",
    task: Annotated[str | None, typer.Option(help="The task; by default a random one.")] = None,
    judge: Annotated[str, typer.Option(help="Who scores.")] = "auto",
    max_turns: Annotated[int, typer.Option(min=2, help="Turns an episode lasts at most.")] = 20,
    episodes: Annotated[
        int | None,
        typer.Option(min=1, help="How many episodes; by default one, with --web no limit."),
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of everything random.")] = None,
    out: Out = None,
    web: Annotated[
        bool, typer.Option("--web", help="Play in the browser, any number of people at a time.")
    ] = False,
    host: HostOption = "127.0.0.1",
    port: PortOption = 8001,
    url: UrlOption = None,
) -> None:
    """Take a role yourself, in the terminal or with --web in the browser."""
    from rich.console import Console

    from sotopia_gym.agents import from_spec
    from sotopia_gym.agents.human import HumanAgent
    from sotopia_gym.envs.parallel import SocialEnv
    from sotopia_gym.errors import UnknownIdError, did_you_mean
    from sotopia_gym.rollout.play import play as play_episode
    from sotopia_gym.web.address import Address
    from sotopia_gym.web.live import Setting

    console = Console(highlight=False, markup=False)
    env = SocialEnv(suite, judge=judge, max_turns=max_turns)
    if role not in env.possible_agents:
        raise UnknownIdError(f"no role {role!r}. {did_you_mean(role, env.possible_agents)}")
    other = from_spec(partner)
    if web:
        if partner == "human":
            raise typer.BadParameter("with --web the others are played by an agent.")
        _serve(
            Setting(
                suite=env.suite,
                role=role,
                partner=other,
                judge=env.judge,
                task=task,
                max_turns=max_turns,
                seed=secrets.randbits(53) if seed is None else seed,
                limit=episodes,
            ),
            out or Path("runs") / "play-web.jsonl",
            Address(host, port, url),
        )
        return
    count = episodes or 1
    options = None if task is None else {"task": task}

    def one(index: int) -> Episode:
        console.rule(f"Episode {index + 1} of {count}")
        me = HumanAgent(tell=console.print)
        cast = {r: me if r == role else other for r in env.possible_agents}
        episode_seed = None if seed is None else seed + index
        episode = play_episode(env, cast, seed=episode_seed, options=options)
        console.print(_verdict(episode, role))
        return episode

    _run(console, count, one, out, "play")


def _serve(setting: Setting, out: Path, address: Address) -> None:
    """Let people play in the browser until Ctrl-C."""
    from sotopia_gym.episodes.journal import Journal
    from sotopia_gym.errors import missing_extra
    from sotopia_gym.web.games import GameStore
    from sotopia_gym.web.live import Lobby

    try:
        from sotopia_gym.web.http import Visitors
        from sotopia_gym.web.play import play_app
        from sotopia_gym.web.server import serve
    except ModuleNotFoundError as error:
        raise missing_extra(error.name or "starlette", "web", "play --web") from error

    store = GameStore(out.with_suffix(".games.db"))
    visitors = Visitors(store.database, restricted=not address.local)
    app = play_app(Lobby(setting, store, Journal(out)), visitors, hosts=address.hosts)
    typer.echo(
        f"Episodes go to {out} when they are over, those in progress to {store.database.path}"
    )
    serve(app, address, visitors.access, lambda link: typer.echo(f"Open {link}"))


def _run(
    console: Console, count: int, one: Callable[[int], Episode], out: Path | None, kind: str
) -> None:
    """Play ``count`` episodes, keeping each as soon as it is finished."""
    from sotopia_gym.episodes.journal import Journal

    stamp = f"{datetime.now():%Y%m%d-%H%M%S}"
    journal = Journal(out or Path("runs") / f"{kind}-{stamp}.jsonl")
    finished: list[Episode] = []
    interrupted = False
    try:
        for index in range(count):
            episode = one(index)
            finished.append(episode)
            journal.append(episode)
    except (KeyboardInterrupt, EOFError):
        interrupted = True
        # It may have come while the last one was being written: the file knows whether it was.
        kept = {episode.episode_id for episode in journal}
        finished = [episode for episode in finished if episode.episode_id in kept]
        console.print(f"\nInterrupted after {len(finished)} of {count} episodes.")
    if finished:
        console.rule("Goal scores, 0 to 10, with 95 % bootstrap intervals")
        console.print(_table(finished))
        console.print(f"{len(finished)} episodes are in {journal.path.resolve()}", soft_wrap=True)
    if interrupted:
        raise typer.Exit(130)


def _table(episodes: list[Episode]) -> object:
    from rich.table import Table

    from sotopia_gym.stats import mean_interval

    table = Table("player", "episodes", "goal", "share of what could be had", "agreed", "unscored")
    played: dict[str, list[tuple[Episode, str]]] = {}
    for episode in episodes:
        for role, name in episode.agents.items():
            played.setdefault(name, []).append((episode, role))
    for name, parts in played.items():
        scored = [
            (e.task.task_id, e.judgement.goal(role), e.judgement.normalised.get(role))
            for e, role in parts
            if e.judgement is not None and e.judgement.goal(role) is not None
        ]
        tasks = [task for task, _, _ in scored]
        goals = [goal for _, goal, _ in scored if goal is not None]
        shares = [share for _, _, share in scored if share is not None]
        agreed = [
            e.judgement.outcome.agreed
            for e, _ in parts
            if e.judgement is not None and e.judgement.outcome is not None
        ]
        table.add_row(
            name,
            str(len(parts)),
            str(mean_interval(goals, tasks)) if goals else "-",
            str(mean_interval(shares, tasks)) if len(shares) == len(tasks) and shares else "-",
            f"{sum(agreed)} of {len(agreed)}" if agreed else "-",
            str(len(parts) - len(goals)),
        )
    return table


def _verdict(episode: Episode, role: str) -> str:
    lines = [f"The conversation is over ({episode.ending})."]
    judgement = episode.judgement
    if judgement is None:
        return " ".join([*lines, "It is unjudged."])
    if not judgement.scored:
        return " ".join([*lines, f"It could not be scored: {judgement.error}"])
    if judgement.outcome is not None:
        terms = ", ".join(f"{key}: {value}" for key, value in judgement.outcome.terms.items())
        lines.append(f"Outcome: {judgement.outcome.status}{f' ({terms})' if terms else ''}.")
    lines.append(f"Your goal score ({judgement.judge}): {judgement.goal(role):.1f} of 10.")
    others = (a for a in episode.task.agents if a != role)
    lines += [f"{episode.task.names[a]} wanted: {episode.task.goal(a)}" for a in others]
    return "\n".join(lines)
