"""Push a trained model to a hub: ``python -m src.push ckpt=RUN repo=user/name [private=true]``."""

from __future__ import annotations

import tempfile
from pathlib import Path

from omegaconf import DictConfig

from ..checkpoints.bundle import is_bundle, unpack
from ..errors import UserError
from ..exporting.bundle_writer import write_bundle
from ..files.project import as_called
from ..hub.resolve import size_of
from ..hub.upload import check_target, push_folder
from ..reports.console import say


def push(cfg: DictConfig) -> str:
    """Uploads a bundle of ``cfg.ckpt`` as one commit; returns the address of what was pushed, with its commit."""
    check_target(cfg.repo)
    ckpt = Path(cfg.ckpt)
    if is_bundle(ckpt) and (cfg.licence is not None or cfg.picture):
        raise UserError(
            f"licence=, picture=: {ckpt} is a bundle, which is pushed as it is; choose them when it is made, with"
            " src.export format=bundle"
        )
    with tempfile.TemporaryDirectory(prefix="semseg-push-") as folder:
        bundle = Path(folder, "bundle")
        if is_bundle(ckpt):
            bundle.mkdir()
            unpack(ckpt, bundle)
        else:
            write_bundle(ckpt, bundle, name=cfg.repo, licence=cfg.licence, picture=cfg.picture)
        say(f"pushing {size_of(bundle) / 1e6:.1f} MB to {cfg.repo}")
        message = cfg.message or "Upload a bundle of semseg"
        page, address = push_folder(bundle, cfg.repo, private=cfg.private, message=message)
    following = as_called(f"python -m src.predict ckpt={address} source=...")
    say(f"pushed: {page}\nuse it:  {following}\nwithout @{(address.revision or '')[:8]}... it is the newest there is")
    return str(address)
