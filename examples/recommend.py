"""Next-film recommendation on MovieLens: two towers that meet in a sampled softmax over nine thousand films.

    python examples/recommend.py [--quick] [--epochs 6] [--data FOLDER] [--out FOLDER]

A person is what he or she rated last: the user tower makes 48 numbers of the last five films and the last fifty. A film
is a row of numbers of its own plus what its genres add: the item tower makes 48 numbers of these. The chance that a
film is rated next is the softmax of the products over all films, and training looks at 512 sampled films a batch
instead of all (``nx.nn.SampledHead``). A head's weights are one row for each class, so the item tower simply *is* the
head's weight, by torch's own ``parametrize``. Answers are exact: all films, without those that the person has rated.

Each person's last ratings judge, those before them are held out, the rest train. Ratings given in the same second are
put in random order, because the file has them by number, which would give the next one away.
"""

import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
from closing import judge, save, write_figures
from opening import nx, options, plt, read_csv, torch
from torch.nn.utils import parametrize

from normexp.metrics import log_loss, wilson

WIDTH = 48
SAMPLES = 512
BATCH = 256
SHORT, LONG = 5, 50  # ratings that the user tower looks back on
EACH = 3  # ratings of each person that are held out, and as many that judge
KS = (1, 2, 5, 10, 20, 50, 100, 200)


class Films(NamedTuple):
    """Films numbered 0 to K - 1: `title` (K,), `genres` (K, G) of 0 and 1, `genre` (G,) their names."""

    title: list[str]
    genres: torch.Tensor
    genre: list[str]


class Moments(NamedTuple):
    """Moments before a rating: `past` (N, 50) films, the latest first, -1 before the first one; `film` (N,) next."""

    past: torch.Tensor
    film: torch.Tensor


def read_histories(data: Path, seed: int) -> tuple[list[np.ndarray], Films]:
    """Films that each person rated, in the order of time."""
    ratings = read_csv(data, "movielens-latest-small", "ratings.csv.gz")
    known = {int(row["movieId"]): row for row in read_csv(data, "movielens-latest-small", "movies.csv.gz")}
    user, film, at = (np.array([int(row[name]) for row in ratings]) for name in ("userId", "movieId", "timestamp"))
    number, film = np.unique(film, return_inverse=True)
    order = np.lexsort((np.random.default_rng(seed).random(len(at)), at, user))
    ends = np.flatnonzero(np.diff(user[order])) + 1
    rows = [known.get(int(n), {"title": f"film {n}", "genres": ""}) for n in number]
    own = [set(row["genres"].split("|")) for row in rows]
    genre = sorted(set().union(*own) - {"", "(no genres listed)"})
    table = torch.tensor([[float(name in one) for name in genre] for one in own])
    return np.split(film[order], ends), Films([row["title"] for row in rows], table, genre)


def moments(histories: list[np.ndarray], first: int, last: int | None) -> Moments:
    """The moments before the ratings `first` to `last` of each person, counted as slices are."""
    past, film = [], []
    for history in histories:
        for t in range(len(history))[first:last]:
            latest = history[max(0, t - LONG) : t][::-1]
            past.append(np.pad(latest, (0, LONG - len(latest)), constant_values=-1))
            film.append(history[t])
    return Moments(torch.from_numpy(np.stack(past)), torch.from_numpy(np.array(film)))


class ItemTower(torch.nn.Module):
    """Rows of the films' own (K, 48) to rows that know the genres (K, 48)."""

    def __init__(self, genres: torch.Tensor) -> None:
        super().__init__()
        self.register_buffer("genres", genres / genres.sum(1, keepdim=True).clamp(min=1.0))
        self.of_genre = torch.nn.Linear(genres.shape[1], WIDTH, bias=False)

    def forward(self, own: torch.Tensor) -> torch.Tensor:
        """What the head multiplies with."""
        return own + self.of_genre(self.genres)


class TwoTowers(torch.nn.Module):
    """User tower, and a sampled head whose weights are the item tower."""

    def __init__(self, films: Films, counts: np.ndarray) -> None:
        super().__init__()
        n_films = len(films.title)
        self.seen = torch.nn.EmbeddingBag(n_films + 1, WIDTH, mode="mean", padding_idx=0)  # 0: no film; film f: f + 1
        self.tower = torch.nn.Sequential(
            torch.nn.Dropout(0.2),
            torch.nn.Linear(2 * WIDTH, 2 * WIDTH),
            torch.nn.ReLU(),
            torch.nn.Dropout(0.2),
            torch.nn.Linear(2 * WIDTH, WIDTH),
        )
        self.head = nx.nn.SampledHead(WIDTH, n_films, SAMPLES, proposal="unigram", class_counts=counts)
        with torch.no_grad():
            self.head.weight.mul_(0.1)
            self.head.bias.copy_(torch.from_numpy(np.log(counts + 0.5))[:, None])  # popular films are likelier
        torch.nn.init.normal_(self.seen.weight, std=0.1)
        parametrize.register_parametrization(self.head, "weight", ItemTower(films.genres))

    def users(self, past: torch.Tensor) -> torch.Tensor:
        """What the user tower makes of the latest films (N, 50): (N, 48)."""
        return self.tower(torch.cat([self.seen(past[:, :SHORT] + 1), self.seen(past + 1)], 1))

    def loss(self, rows: Moments) -> torch.Tensor:
        """Sampled softmax in training, the exact cross-entropy in evaluation."""
        with parametrize.cached():  # the item tower runs once a batch
            return self.head.loss(self.users(rows.past), rows.film)


def logits_of(network: TwoTowers, rows: Moments, rated: list[np.ndarray]) -> np.ndarray:
    """Logits of all films (N, K); -inf, which is probability 0, for those that the person has rated already."""
    network.eval()
    with torch.no_grad():
        z = network.head(network.users(rows.past)).numpy()
    return without_rated(z, rated)


def without_rated(z: np.ndarray, rated: list[np.ndarray]) -> np.ndarray:
    """The same logits (N, K), with -inf for the films of `rated`."""
    z = z.copy()
    for row, films in zip(z, rated, strict=True):
        row[films] = -np.inf
    return z


def train(network: TwoTowers, rows: Moments, held_out: Moments, epochs: int) -> None:
    """AdamW; prints the exact loss over all films, which SampledHead gives in evaluation mode."""
    optimiser = torch.optim.AdamW(network.parameters(), lr=3e-3, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.LinearLR(optimiser, 1.0, 0.05, epochs)
    start = time.process_time()
    for epoch in range(1, epochs + 1):
        network.train()
        for some in torch.randperm(len(rows.film)).split(BATCH):
            optimiser.zero_grad()
            network.loss(Moments(rows.past[some], rows.film[some])).backward()
            optimiser.step()
        schedule.step()
        network.eval()
        with torch.no_grad():
            exact = float(network.loss(held_out))
        print(f"epoch {epoch}: held-out log loss {exact:.4f}, {time.process_time() - start:.0f} CPU s")


def hit_rates(z: np.ndarray, film: np.ndarray) -> dict[int, float]:
    """Share of the moments whose next film is among the k likeliest."""
    index = nx.top_k(z, max(KS)).index
    return {k: float((index[:, :k] == film[:, None]).any(axis=1).mean()) for k in KS}


def draw_hits(hits: dict[str, dict[int, float]], path: Path) -> None:
    """Hit rate by length of the list, for each way to make one."""
    figure, axes = plt.subplots(figsize=(5.6, 3.8), layout="constrained")
    for (name, rates), colour in zip(hits.items(), ("#2c5d86", "#a3261b"), strict=True):
        axes.plot(KS, [100 * rates[k] for k in KS], color=colour, marker="o", ms=4, label=name)
    axes.set_xscale("log")
    axes.set_xticks(KS, [str(k) for k in KS])
    axes.minorticks_off()
    axes.set(xlabel="films in the list", ylabel="% of the lists that hold the next film")
    axes.legend(frameon=False, fontsize=9)
    axes.spines[["top", "right"]].set_visible(False)
    save(figure, path)


def draw_chances(z: np.ndarray, film: np.ndarray, path: Path) -> None:
    """Of all pairs of a moment and a film: how often those with a stated chance were the next film."""
    prob = nx.softmax(z)
    edges = 10.0 ** np.arange(-6.0, 0.0, 0.5)
    place = np.digitize(prob, edges)
    true = np.zeros(prob.shape, dtype=bool)
    true[np.arange(len(film)), film] = True
    n, hit, stated = (np.bincount(place.ravel(), w, len(edges) + 1) for w in (None, true.ravel(), prob.ravel()))
    seen = hit >= 5  # of fewer hits the share is noise
    low, high = wilson(hit[seen], n[seen])
    figure, axes = plt.subplots(figsize=(5.0, 4.4), layout="constrained")
    ends = [0.5 * float((stated[seen] / n[seen]).min()), 2.0 * float((stated[seen] / n[seen]).max())]
    axes.loglog(ends, ends, color="#6a675f", linewidth=0.8, linestyle=(0, (4, 3)))
    axes.vlines(stated[seen] / n[seen], low, high, color="#2c5d86", alpha=0.3, linewidth=4)
    axes.plot(stated[seen] / n[seen], hit[seen] / n[seen], color="#2c5d86", marker="o", ms=4)
    axes.xaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_major_formatter("{x:g}")
    axes.set(xlabel="stated chance that a film is next", ylabel="how often it was")
    axes.spines[["top", "right"]].set_visible(False)
    save(figure, path)


def shortened(title: str) -> str:
    """A title that leaves room for others."""
    return title if len(title) <= 36 else f"{title[:35]}…"


def draw_films(tower: np.ndarray, films: Films, counts: np.ndarray, path: Path) -> None:
    """For the most rated films, the films whose rows of the item tower point the same way."""
    unit = tower / np.linalg.norm(tower, axis=1, keepdims=True)
    often = np.flatnonzero(counts >= np.sort(counts)[-400])  # of a film that few have seen, little is known
    figure, axes = plt.subplots(figsize=(10.4, 4.4), layout="constrained")
    shown = np.argsort(-counts)[:12]
    axes.set(xlim=(0, 1), ylim=(len(shown) - 0.4, -0.8))
    axes.axis("off")
    for line, film in enumerate(shown):
        likeness = unit[often] @ unit[film]
        nearest = [often[i] for i in np.argsort(-likeness) if often[i] != film][:3]
        axes.text(0.27, line, shortened(films.title[film]), ha="right", fontsize=9, color="#2c5d86")
        axes.text(0.285, line, "   ·   ".join(shortened(films.title[i]) for i in nearest), fontsize=8.5)
    save(figure, path)


def main() -> None:
    """Train, recommend, audit."""
    given = options(__file__, __doc__, epochs=6, quick_epochs=1)
    histories, films = read_histories(given.data, given.seed)
    each, judged = (1, 200) if given.quick else (EACH, None)
    counts = np.bincount(np.concatenate([h[: -2 * each] for h in histories]), minlength=len(films.title))
    rows, some = moments(histories, 1, -2 * each), histories[:judged]
    held_out, test = moments(some, -2 * each, -each), moments(some, -each, None)
    rated_held = [h[:t] for h in some for t in range(len(h))[-2 * each : -each]]
    rated = [h[:t] for h in some for t in range(len(h))[-each:]]
    print(f"{len(rows.film):,} moments of {len(histories)} people to train on, {len(films.title):,} films")
    network = TwoTowers(films, counts.astype(np.float64))
    start = time.process_time()
    train(network, rows, held_out, given.epochs)
    seconds = time.process_time() - start
    z_held, z = logits_of(network, held_out, rated_held), logits_of(network, test, rated)
    film = test.film.numpy()
    popular = without_rated(np.tile(np.log(counts + 0.5).astype(np.float32), (len(film), 1)), rated)
    hits = {"two towers": hit_rates(z, film), "most rated films": hit_rates(popular, film)}
    for name, rates in hits.items():
        told = ", ".join(f"{100 * rates[k]:.1f} % of {k}" for k in (1, 10, 100))
        print(f"{name}: the next film is among the first {told}")
    draw_hits(hits, given.out / "hits.png")
    with torch.no_grad():
        draw_films(network.head.weight.numpy(), films, counts, given.out / "films.png")
    draw_chances(z, film, given.out / "chances.png")
    prior = (counts + 0.5) / (counts + 0.5).sum()
    found = judge((z_held, held_out.film.numpy()), (z, film), given.out, classes=tuple(films.title), anyway=True,
                  prior=prior, picture=False, risk=0.5, source="MovieLens, next films")  # fmt: skip
    write_figures({**found, "hit_rates": hits, "log_loss_popular": log_loss(film, popular),
                   "cpu_seconds": round(seconds, 1)}, given.out)  # fmt: skip


if __name__ == "__main__":
    main()
