"""The processes that train one model together: one a GPU, as torchrun starts them, or this one alone."""

import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NoReturn, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from cavsync.errors import CavsyncError, PeerFailedError

T = TypeVar("T")

# Set by torchrun and by other launchers.
LAUNCHER_VARIABLES = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


@dataclass(frozen=True)
class Ranks:
    """This process among `count` that run the same program. Methods that communicate with the others must be
    called by all of them, in the same order."""

    rank: int = 0
    count: int = 1

    @property
    def first(self) -> bool:
        """True for the one that prints and writes."""
        return self.rank == 0

    def any(self, flag: bool) -> bool:
        """Whether `flag` holds in any rank."""
        return self._least(int(not flag)) == (0,)

    def on_all_ranks(self, work: Callable[[], T]) -> T:
        """The result of `work` in this rank, once it is done in all ranks.

        If it fails in any, all end: the lowest rank that failed raises its error, the others PeerFailedError. `work`
        itself does not communicate with the others.
        """
        return self.on_all_ranks_with(work, flag=False)[0]

    def on_all_ranks_with(self, work: Callable[[], T], flag: bool) -> tuple[T, bool]:
        """As `on_all_ranks`, and whether `flag` holds in any rank; the ranks communicate once for both."""
        try:
            result, error = work(), None
        except CavsyncError as caught:
            if self.count == 1:
                raise
            error = caught
        lowest_failed, no_flag = self._least(self.count if error is None else self.rank, int(not flag))
        if error is not None and lowest_failed == self.rank:
            raise error
        if lowest_failed < self.count:
            raise PeerFailedError(self.rank) from error
        return result, no_flag == 0

    def fail(self, error: CavsyncError) -> NoReturn:
        """For an error that every rank has found: the first one raises it, all end."""
        if self.first:
            raise error
        raise PeerFailedError(self.rank) from error

    def of_first(self, value: T) -> T:
        """The `value` that the first rank gave."""
        return self.gather_objects(value)[0]

    def gather_objects(self, value: T) -> list[T]:
        """The `value` of each rank, in order."""
        if self.count == 1:
            return [value]
        values: list[Any] = [None] * self.count
        dist.all_gather_object(values, value)
        return values

    def gather(self, rows: Tensor) -> Tensor:
        """`rows` (n, ...) of every rank, stacked to (ranks * n, ...); see `_Gather` for its gradient."""
        if self.count == 1:
            return rows
        gathered: Tensor = _Gather.apply(rows, self)
        return gathered

    def mean(self, values: Tensor) -> Tensor:
        """The mean over the ranks of equally shaped values, without a gradient."""
        values = values.detach().clone()
        if self.count > 1:
            dist.all_reduce(values)
        return values / self.count

    def give_weights_of_first(self, model: nn.Module) -> None:
        """Replaces the tensors of `model`, which is on the CPU and of one shape in all ranks, by those of the first."""
        if self.count > 1:
            for tensor in model.state_dict().values():
                dist.broadcast(tensor, src=0)

    def replicated(self, model: nn.Module) -> nn.Module:
        """`model` so that its backward averages the gradients over the ranks; every parameter must have one."""
        if self.count == 1:
            return model
        return DistributedDataParallel(model, gradient_as_bucket_view=True)

    def _least(self, *values: int) -> tuple[int, ...]:
        """For each of the values the least that a rank gave; between CPUs, so that no GPU is waited for."""
        if self.count == 1:
            return values
        tensor = torch.tensor(values)
        dist.all_reduce(tensor, dist.ReduceOp.MIN)
        return tuple(tensor.tolist())


class _Gather(torch.autograd.Function):
    """In the backward, each rank takes the gradient of its rows, times the number of ranks.

    Every rank computes the same loss from all the rows, so that gradient is complete where it is, and nothing
    needs to travel; the factor undoes the averaging of gradients over the ranks that follows.
    """

    @staticmethod
    def forward(ctx: Any, rows: Tensor, ranks: Ranks) -> Tensor:
        ctx.ranks, ctx.num_rows = ranks, len(rows)
        parts = [torch.empty_like(rows) for _ in range(ranks.count)]
        dist.all_gather(parts, rows.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        first = ctx.ranks.rank * ctx.num_rows
        return gradients[0][first : first + ctx.num_rows] * ctx.ranks.count, None


@contextmanager
def joined(device: torch.device) -> Iterator[Ranks]:
    """The group that a launcher such as torchrun put this process in, for as long as `with` lasts."""
    if not all(name in os.environ for name in LAUNCHER_VARIABLES):
        yield Ranks()
        return
    # Flags and objects travel between CPUs, so that no step waits for the GPU on their account.
    dist.init_process_group("cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo")
    try:
        with warnings.catch_warnings():
            # Of the learned tokens, (1, 1, dim): a stride along an axis of one element means nothing.
            warnings.filterwarnings("ignore", "Grad strides do not match bucket view strides")
            yield Ranks(dist.get_rank(), dist.get_world_size())
    finally:
        dist.destroy_process_group()
