"""One round: an operation is begun, the agent dies on the way and is started again; then every invariant must hold."""

from __future__ import annotations

import contextlib

from agent.errors import GatewayError
from tests.faults.campaign import MISSED
from tests.faults.lab.gateway import Gateway, wait_for_death
from tests.faults.lab.invariants import check_state_files, wait_converged


def kill_at_step(gateway: Gateway, operation: str, failpoint: str) -> str:
    """Kill the running agent at the failpoint of `operation`. "" when all went well; MISSED when it did not die."""
    gateway.prepare(operation)
    before, goal = gateway.version, gateway.goal(operation)
    gateway.agent.arm(failpoint)
    job = ""
    with contextlib.suppress(GatewayError):
        job = gateway.begin(operation)
    died = wait_for_death(gateway, job)
    gateway.agent.disarm()
    if not died:
        return settle(gateway, operation, before, goal, job) or MISSED
    return recover(gateway, operation, before, goal, job)


def recover(gateway: Gateway, operation: str, before: str, goal: str, job: str) -> str:
    """Start the dead agent again and wait for all that must hold."""
    problem = check_state_files(gateway.agent.state, gateway.root / "scratch")
    if problem:
        return problem
    gateway.agent.start()
    return settle(gateway, operation, before, goal, job)


def settle(gateway: Gateway, operation: str, before: str, goal: str, job: str, *, told: bool = True) -> str:
    """Wait for what must hold. A command that was answered with a job is not lost, and leads to its goal or back."""
    if operation == "install":
        gateway.token = ""  # whichever the new volume is born with
    problem = wait_converged(gateway, (before, goal), told=told)
    if problem:
        return problem
    if job and job not in {each["id"] for each in gateway.jobs()}:
        return f"job {job}, which was answered for, is gone"
    if operation in ("install", "remove"):
        gateway.token = gateway.data()[1]
    return ""


def count_entries(gateway: Gateway, operation: str) -> int:
    """How many steps the journal has of the operation when nothing disturbs it."""
    gateway.prepare(operation)
    job = gateway.complete(operation)
    return len(gateway.job(str(job["id"]))["steps"])
