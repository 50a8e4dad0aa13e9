"""The one manifest of files that are not part of the repository: what each is, where it officially comes from, how large it is.

Checksums of files that the asset mirror holds were taken from the files; those of files it does not hold are the publishers' own
(torch's naming rule puts the first digits into the file's name) or the ones that several public projects pin for the official address.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

#: How a file is got: "download" by us; "convert" from an upstream repository; "user" for a file that each user asks for or makes.
Kind = Literal["download", "convert", "user"]


@dataclass(frozen=True)
class Asset:
    """One file.

    Attributes:
        name: path within an asset folder.
        kind: how it is got.
        source: official address: of the file itself for "download", of the page or repository otherwise.
        n_bytes: size; exact unless ``is_about``.
        sha256: hex digest or its first digits; empty where every user's file differs.
        licence: licence of the weights.
        needed_by: the parameters that ask for it.
        obtain: what to do where it cannot be downloaded.
        is_about: the size is the publisher's rounded one.
    """

    name: str
    kind: Kind
    source: str
    n_bytes: int
    sha256: str
    licence: str
    needed_by: str
    obtain: str = ""
    is_about: bool = False

    @property
    def size_text(self) -> str:
        """Size for people, in decimal units."""
        value, unit = (self.n_bytes / 1e6, "MB") if self.n_bytes >= 1e6 else (self.n_bytes / 1e3, "kB")
        return f"{'about ' if self.is_about else ''}{value:.1f} {unit}"


_BLAZEFACE = "https://github.com/hollance/BlazeFace-PyTorch"
_ICT = "https://github.com/ICT-VGL/ICT-FaceKit"
_ICT_STEPS = (
    "it is ICT-FaceKit's FaceXModel as one npz (keys and units: flowvqtalker.face.ict.load_ict; OBJ reader: convert_ict); "
    "`make assets MIRROR=<folder>` copies it from a mirror that has it"
)
_BFM_STEPS = (
    "ask for the Basel Face Model 2009 on that page (01_MorphableModel.mat), get the expression basis Exp_Pca.bin that the README of "
    "https://github.com/sicxu/Deep3DFaceRecon_pytorch names, and let that project write BFM_model_front.mat"
)

ASSETS: tuple[Asset, ...] = (
    Asset(
        "mediapipe/face_landmarker.task", "download",
        "https://storage.googleapis.com/mediapipe-models/face_landmarker/face_landmarker/float16/1/face_landmarker.task",
        3_758_596, "64184e229b263107bc2b804c6625db1341ff2bb731874b0bcc2fe6544e0bc9ff", "Apache-2.0", "landmarks.backend: mediapipe",
    ),
    Asset(
        "face_alignment/2DFAN4-11f355bf06.pth.tar", "download",
        "https://www.adrianbulat.com/downloads/python-fan/2DFAN4-11f355bf06.pth.tar",
        95_641_761, "11f355bf0693120222f5955ce3f9dc8fb5763ebb30a47d7906e509490d32e4aa", "BSD-3-Clause", "landmarks.backend: face_alignment",
    ),
    Asset(
        "face_alignment/s3fd-619a316812.pth", "download", "https://www.adrianbulat.com/downloads/python-fan/s3fd-619a316812.pth",
        89_843_225, "619a31681264d3f7f7fc7a16a42cbbe8b23f31a256f75a366e5a1bcd59b33543", "BSD-3-Clause",
        "face_alignment with its S3FD detector",
    ),
    Asset(
        "blazeface/blazeface.pth", "download", f"{_BLAZEFACE}/raw/master/blazeface.pth",
        420_224, "54ecff653feaaaf1f7d44b6aff28fd2fc50e483a4e847563b6dd261369c43ba4", "Apache-2.0", "landmarks.backend: face_alignment",
    ),
    Asset(
        "blazeface/anchors.npy", "download", f"{_BLAZEFACE}/raw/master/anchors.npy",
        28_800, "a10bb2fb93ab54ca426d6c750bfc3aad685028a16dcf231357d03694f261fd95", "Apache-2.0", "landmarks.backend: face_alignment",
    ),
    Asset(
        "ict/ict_facekit_7k.npz", "convert", _ICT,
        4_750_049, "b6c646b9a6571bf1e2de20f03759b470d942dd3e96d748d9f7296f6634fa2701", "MIT", "fit3dmm.model: ict", _ICT_STEPS,
    ),
    Asset(
        "ict/ict_facekit.npz", "convert", _ICT,
        15_256_421, "a8d8586162204e972cd8515a055f6c848aae924c9e3d0db06893b97d7a95184c", "MIT",
        "fit3dmm.model: ict with fit3dmm.asset: ict/ict_facekit.npz", _ICT_STEPS,
    ),
    Asset(
        "bfm/BFM_model_front.mat", "user", "https://faces.dmi.unibas.ch/bfm/main.php?nav=1-0&id=basel_face_model",
        127_000_000, "", "Basel Face Model licence (research, per user)", "fit3dmm.model: bfm", _BFM_STEPS, is_about=True,
    ),
    Asset(
        "torchvision/squeezenet1_1-b8a52dc0.pth", "download", "https://download.pytorch.org/models/squeezenet1_1-b8a52dc0.pth",
        4_959_000, "b8a52dc0", "BSD-3-Clause (torchvision)", "codebook.perceptual.network: squeezenet", is_about=True,
    ),
    Asset(
        "torchvision/vgg16-397923af.pth", "download", "https://download.pytorch.org/models/vgg16-397923af.pth",
        553_433_881, "397923af8e79cdbb6a7127f12361acd7a2f83e06b05044ddf496e83de57a5bf0", "BSD-3-Clause (torchvision)", "outside.judges: lpips",
    ),
    Asset(
        "lpips/v0.1/vgg.pth", "download",
        "https://github.com/richzhang/PerceptualSimilarity/raw/master/lpips/weights/v0.1/vgg.pth",
        7_289, "a78928a0af1e5f0fcb1f3b9e8f8c3a2a5a3de244d830ad5c1feddc79b8432868", "BSD-2-Clause", "outside.judges: lpips",
    ),
    Asset(
        "syncnet/syncnet_v2.model", "download", "https://www.robots.ox.ac.uk/~vgg/software/lipsync/data/syncnet_v2.model",
        54_573_114, "961e8696f888fce4f3f3a6c3d5b3267cf5b343100b238e79b2659bff2c605442", "see https://github.com/joonson/syncnet_python",
        "outside.judges: syncnet",
    ),
    Asset(
        "inception/pt_inception-2015-12-05-6726825d.pth", "download",
        "https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/pt_inception-2015-12-05-6726825d.pth",
        95_628_359, "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2", "Apache-2.0", "outside.judges: inception",
    ),
    Asset(
        "wav2vec2/model.safetensors", "download",
        "https://huggingface.co/facebook/wav2vec2-base-960h/resolve/22aad52d435eb6dbaf354bdad9b0da84ce7d6156/model.safetensors",
        377_607_901, "8aa76ab2243c81747a1f832954586bc566090c83a0ac167df6f31f0fa917d74a", "Apache-2.0", "outside.speech: wav2vec2",
    ),
    Asset(
        "hubert/pytorch_model.bin", "download",
        "https://huggingface.co/facebook/hubert-base-ls960/resolve/dba3bb02fda4248b6e082697eee756de8fe8aa8a/pytorch_model.bin",
        377_569_754, "062249fffb353eab67547a2fbc129f7c31a2f459faf641b19e8fb007cc5c48ad", "Apache-2.0", "outside.speech: hubert",
    ),
)  # fmt: skip

BY_NAME: dict[str, Asset] = {asset.name: asset for asset in ASSETS}
