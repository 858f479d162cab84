"""`ecgw image`: what the APPs' containers are made of."""

from __future__ import annotations

import os
from argparse import Namespace
from pathlib import Path
from typing import Any

from agent.cli.orders import LOGIN, TIMES, read_login, read_pull, read_push
from agent.cli.pairs import split_pairs
from agent.cli.rows import listing, rows_of
from agent.cli.screen import Column, Screen
from agent.cli.verb import Verb, arg
from agent.cli.words import short_id, short_image, size
from agent.errors import Malformed

IMAGE = arg("image", help="image reference, such as 127.0.0.1:5000/modbus:1.0.0", metavar="REF")


def name_folder(given: Namespace, params: dict[str, Any]) -> None:
    """The agent reads the folder, so its name must hold wherever the agent stands. A login needs its registry named."""
    folder, dockerfile = Path(os.path.realpath(given.folder)), given.dockerfile
    if not (folder / dockerfile).is_file():
        raise Malformed("cli.no_dockerfile", f"{folder} has no {dockerfile}", hint="name the folder that holds it")
    params["folder"] = str(folder)
    params["args"] = split_pairs(given.args, "--arg")
    read_login(given, params, ())


def name_path(given: Namespace, params: dict[str, Any]) -> None:
    """As `name_folder`, for an archive."""
    params["path"] = os.path.realpath(given.path)


def show_images(screen: Screen, data: Any) -> None:
    """A row for each name of an image; what has none is known by its id."""
    images = rows_of(data)
    LIST(screen, [{**image, "tags": name} for image in images for name in (image.get("tags") or ("",))])


LIST = listing(
    Column("tags", "image", short_image),
    Column("id", show=short_id),
    Column("size_bytes", "size", size),
    Column("architecture", "arch"),
    Column("in_use", "in use"),
    Column("created"),
    empty="no images",
)

VERBS = (
    Verb("list", "Images on the gateway.", type="image.list", render=show_images),
    Verb("pull", "Fetch an image from its registry.", (IMAGE, *TIMES, *LOGIN), "image.pull", None, read_pull, job=True),
    Verb(
        "build",
        "Build an image from a folder with a Dockerfile.",
        (
            arg("folder", help="the folder on the gateway", metavar="FOLDER"),
            arg("-t", "--tag", help="name of the image", required=True, dest="tag", metavar="REF"),
            arg("--dockerfile", help="another file below the folder", default="Dockerfile", metavar="FILE"),
            arg("--arg", help="for an ARG of the Dockerfile", action="append", dest="args", metavar="NAME=VALUE"),
            arg("--target", help="the last stage wanted", default="", metavar="STAGE"),
            *LOGIN,
        ),
        "image.build",
        prepare=name_folder,
        job=True,
    ),
    Verb("push", "Hand an image to its registry.", (IMAGE, *LOGIN), "image.push", None, read_push, job=True),
    Verb(
        "load",
        "Read images from an archive.",
        (arg("path", help="a file as `image save` writes it", metavar="FILE"),),
        "image.load",
        prepare=name_path,
        job=True,
    ),
    Verb(
        "save",
        "Write images to an archive.",
        (
            arg("images", help="image references", nargs="+", metavar="REF"),
            arg("-o", "--output", help="the file to write", required=True, dest="path", metavar="FILE"),
        ),
        "image.save",
        prepare=name_path,
        job=True,
    ),
    Verb("remove", "Remove an image that no APP uses.", (IMAGE,), "image.remove", job=True),
    Verb("prune", "Remove what no APP uses, neither now nor to go back.", type="image.prune", job=True),
)
