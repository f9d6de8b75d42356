"""The processes that share a run, as torchrun starts them."""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING

import torch
from torch import distributed

if TYPE_CHECKING:
    from torch.distributed.distributed_c10d import Store

# A process may wait for the slowest one until the end of a long run.
_PATIENCE = timedelta(days=30)


class Group:
    """The processes of a run; without torchrun a single one.

    Attributes:
        rank (int): Number of this process, from 0.
        size (int): Number of processes, over all machines.
        local_rank (int): Number of this process on its machine.
    """

    def __init__(self) -> None:
        """Reads torchrun's variables.

        Raises:
            ValueError: If one is no integer, or a rank is not below its size.
        """
        self.rank, self.size = _rank_and_size("RANK", "WORLD_SIZE")
        self.local_rank, self._local_size = _rank_and_size(
            "LOCAL_RANK", "LOCAL_WORLD_SIZE"
        )

    def device_name(self, name: str) -> str:
        """Returns the device of this process: a GPU each where there are several.

        Args:
            name (str): "auto", "cpu", "cuda" or "cuda:N".

        Raises:
            ValueError: If there are more processes than GPUs, or one GPU is named for
                several processes.
        """
        if name == "auto":
            name = "cuda" if torch.cuda.is_available() else "cpu"
        if self.size == 1 or not name.startswith("cuda"):
            return name
        count = torch.cuda.device_count()
        if name != "cuda" or self._local_size > count:
            raise ValueError(
                f"device must be cuda, with a GPU for each of the {self._local_size} "
                f"processes of this machine, got {name} and {count} GPUs. Start one "
                "process per GPU."
            )
        return f"cuda:{self.local_rank}"

    def join(self, device: torch.device) -> None:
        """Connects to the other processes: by nccl on GPUs, by gloo elsewhere."""
        if self.size == 1:
            return
        from torch.distributed.rendezvous import rendezvous

        if device.type == "cuda":
            torch.cuda.set_device(device)
        backend = "nccl" if device.type == "cuda" else "gloo"
        try:
            found = rendezvous("env://", self.rank, self.size, timeout=_PATIENCE)
            store, _, _ = next(iter(found))
        # Of a missing or wrong MASTER_ADDR or MASTER_PORT.
        except (RuntimeError, ValueError) as error:
            raise ValueError(
                "MASTER_ADDR and MASTER_PORT must lead to the first process, got "
                f"{os.environ.get('MASTER_ADDR')!r} and "
                f"{os.environ.get('MASTER_PORT')!r} ({error}). Start the run with "
                "torchrun, or unset WORLD_SIZE."
            ) from error
        distributed.init_process_group(
            backend,
            store=_fresh(store, self.rank, self.size),
            rank=self.rank,
            world_size=self.size,
            timeout=_PATIENCE,
        )

    def first(self, work: Callable[[], None]) -> None:
        """Runs `work` in process 0, while the others wait.

        Raises:
            Exception: What the work raises, in process 0.
            SystemExit: In the others, if it raised.
        """
        failure: BaseException | None = None
        if self.rank == 0:
            try:
                work()
            except (OSError, ValueError) as error:
                failure = error
        if self.size > 1:
            failed = [failure is not None]
            distributed.broadcast_object_list(failed, src=0)
            if failed[0] and self.rank:
                raise SystemExit(2)  # process 0 prints the error
        if failure is not None:
            raise failure

    def wait(self) -> None:
        """Returns when all processes have called it."""
        if self.size == 1:
            return
        if distributed.get_backend() == "nccl":
            distributed.barrier(device_ids=[torch.cuda.current_device()])
        else:
            distributed.barrier()

    def leave(self) -> None:
        """Disconnects from the other processes."""
        if self.size > 1 and distributed.is_initialized():
            distributed.destroy_process_group()


def _rank_and_size(rank: str, size: str) -> tuple[int, int]:
    """Returns two of torchrun's variables, (0, 1) where they are not set."""
    repair = f"Start the run with torchrun, or unset {rank} and {size}."
    for name in (rank, size):
        text = os.environ.get(name, "0")
        if not (text.isascii() and text.isdecimal()):
            raise ValueError(
                f"{name} must be an integer of at least 0, got {text!r}. {repair}"
            )
    found = int(os.environ.get(rank, "0")), int(os.environ.get(size, "1"))
    if not found[0] < found[1] or (found[1] > 1 and rank not in os.environ):
        raise ValueError(
            f"{rank} must be below {size}, got {os.environ.get(rank)} and "
            f"{os.environ.get(size)}. {repair}"
        )
    return found


def _fresh(store: Store, rank: int, size: int) -> Store:
    """Returns a part of the store that only the processes of this start use.

    After a restart, torchrun's store may still contain the addresses of dead processes,
    and there is no number that all machines know and that differs between starts. So
    process 0 draws a name and sends it to each process that is alive.
    """
    from torch.distributed.distributed_c10d import PrefixStore

    if rank:
        own = uuid.uuid4().hex
        store.set(f"captum_iscam/waiting/{rank}", own)
        name = store.get(f"captum_iscam/name/{own}").decode()
        store.set(f"captum_iscam/{name}/{rank}", "")
        return PrefixStore(name, store)
    name = uuid.uuid4().hex
    missing, informed = set(range(1, size)), set[bytes]()
    while missing:
        for other in sorted(missing):
            if store.check([f"captum_iscam/waiting/{other}"]):
                own_name = store.get(f"captum_iscam/waiting/{other}")
                if own_name not in informed:
                    informed.add(own_name)
                    store.set(f"captum_iscam/name/{own_name.decode()}", name)
            if store.check([f"captum_iscam/{name}/{other}"]):
                missing.remove(other)
        time.sleep(0.02)
    return PrefixStore(name, store)
