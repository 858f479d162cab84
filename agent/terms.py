"""The settings in the terms of the parts they are for: adapters and rooms do not know what a file looks like."""

from __future__ import annotations

from pathlib import Path

from agent.cloud.link import LinkSettings, Tls
from agent.control.room import Care
from agent.control.watch.usealarms import Lines
from agent.data.reduction import ReductionSettings
from agent.domain.space import Watermarks
from agent.engine.handover import Rooms
from agent.engine.images import ImageRules
from agent.registry.client import Limits as FetchLimits
from agent.registry.hosts import Host
from agent.settings import Settings


def care(settings: Settings) -> Care:
    """When services count as ill, and what is too much."""
    lines = settings.thresholds
    apps = (lines.app_mem_percent, lines.app_pids_percent, lines.app_throttled_percent, lines.app_disk_percent)
    return Care(
        settings.supervision.restart_policy,
        Lines(lines.as_mapping(), *apps),
        times=settings.updates.times(),
        images_high_percent=settings.images.high_percent,
    )


def reduction(settings: Settings) -> ReductionSettings:
    """How points are made less."""
    uplink, points = settings.uplink, settings.points
    return ReductionSettings(
        window_s=points.window_s,
        max_interval_s=points.max_interval_s,
        batch_items=uplink.batch_items,
        batch_after_s=uplink.batch_after_s,
    )


def link_settings(settings: Settings) -> LinkSettings:
    """The session with the broker."""
    cloud = settings.cloud
    tls = None if cloud.insecure else Tls(Path(cloud.tls.ca), Path(cloud.tls.cert), Path(cloud.tls.key))
    return LinkSettings(
        cloud.host, cloud.effective_port, settings.identity.id, tls, keepalive_s=round(cloud.keep_alive_s)
    )


def registry_hosts(settings: Settings) -> dict[str, Host]:
    """How registries and mirrors are reached."""
    hosts = settings.registries.hosts.items()
    return {name: Host(h.mirrors, h.ca, h.insecure, h.username, h.password_file) for name, h in hosts}


def fetch_limits(settings: Settings) -> FetchLimits:
    """How images are fetched."""
    fetching = settings.registries
    reserve_bytes = settings.policy.capacity.disk_reserve_bytes
    return FetchLimits(fetching.stall_s, fetching.rate_bytes or 0, fetching.at_once, reserve_bytes)


def image_rules(settings: Settings) -> ImageRules:
    """How images are marked and cleaned up."""
    images, reserve_bytes = settings.images, settings.policy.capacity.disk_reserve_bytes
    return ImageRules(
        mark=settings.engine.prefix,
        stall_s=settings.registries.stall_s,
        watermarks=Watermarks(images.high_percent, images.low_percent, reserve_bytes),
        rooms=Rooms(str(settings.paths.state)),
    )
