"""What a gateway cannot take, through the real command line: its exit code, nothing changed and nothing left."""

from __future__ import annotations

import platform
from pathlib import Path

from agent.domain.platform import read_machine
from deploy.demo.agent import BIN, run_program
from tests.e2e.bundled import make_app

HERE = str(read_machine(platform.machine()))
OTHER, OTHERS_KERNEL = ("amd64", "x86_64") if HERE == "arm64" else ("arm64", "aarch64")


def test_an_image_of_this_engines_is_not_packed_for_gateways_that_cannot_run_it(
    tmp_path: Path, engine_socket: Path
) -> None:
    app = make_app(tmp_path / "app", "1", "ec/busybox:1")
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "gateway.yaml").write_text(f"engine: {{socket: {engine_socket}}}\n")
    bundle = tmp_path / "pump.bundle"
    words = ["bundle", "create", str(app), "-o", str(bundle), "--config", str(tmp_path / "etc"), "--arch"]
    done = run_program([str(BIN / "ecgw"), *words, OTHERS_KERNEL])
    assert done.code == 4, done
    assert f"the engine's ec/busybox:1 is made for {HERE}, the bundle for {OTHER}" in done.err
    assert not bundle.exists()
    assert run_program([str(BIN / "ecgw"), *words, platform.machine()]).code == 0
