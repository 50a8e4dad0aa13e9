"""Parameters of the stage ``flow``."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import model_validator

from pipeline.params.base import Field, Section


class FlowLoopParams(Section):
    """Length and speed of one training."""

    steps: int = Field(ge=1, le=10_000_000, description="optimisation steps")
    batch: int = Field(ge=1, le=4096, description="windows per step")
    lr: float = Field(gt=0, le=0.1, description="peak learning rate (AdamW)")
    warmup_steps: int = Field(ge=0, description="steps of linear warm-up")
    final_lr_share: float = Field(ge=0, le=1, description="share of the peak rate at the end of the cosine")
    weight_decay: float = Field(ge=0, le=10, description="AdamW weight decay")
    grad_clip: float = Field(gt=0, description="largest L2 norm of the gradients")
    ema_decay: float = Field(ge=0, lt=1, description="decay of the averaged weights per step")
    validate_every: int = Field(ge=1, description="steps between validations and checkpoints")
    patience: int = Field(ge=1, description="validations without a better value before the training stops")


class ConditionerParams(Section):
    """The cross-fitted audio-to-expression regressions whose residual the flow models; used when ``residual`` is on."""

    folds: int = Field(ge=1, le=20, description="conditioners; each has not seen its fold of the training identities")
    width: int = Field(ge=8, le=1024, description="channels")
    dropout: float = Field(ge=0, lt=1, description="dropout")
    motion_weight: float = Field(ge=0, description="weight of the error within a window against the error of its mean")
    training: FlowLoopParams


class LidParams(Section):
    """The lids' own factor of ExpFlow's density, a conditional mixture of normals; ``batch`` of its training counts frames."""

    mixture: int = Field(ge=0, le=8, description="normals in the mixture, at least 2; 0 leaves the lids to the flow steps")
    dropout: float = Field(ge=0, lt=1, description="dropout of what it sees of the encoded conditions")
    astray: float = Field(
        ge=0, le=2, description="windows with lids gone astray while the lids are trained alone, as a share of the others"
    )
    training: FlowLoopParams

    @model_validator(mode="after")
    def _is_a_mixture(self) -> LidParams:
        if self.mixture == 1:
            raise ValueError("mixture: 1 normal is no mixture; 0 for none, or at least 2")
        return self


class PoseParams(Section):
    """PoseFlow where it differs from ExpFlow; its latent is one Gaussian and it sees no emotion."""

    flow_steps: int = Field(ge=1, le=64, description="K")
    width: int = Field(ge=8, le=1024, description="width of tokens and couplings")
    heads: int = Field(ge=1, le=32, description="attention heads; divides width")
    order: int = Field(ge=0, le=4, description="order of the stable linear prediction whose innovations the flow models")
    history_noise: float = Field(ge=0, le=2, description="noise on the history in training [standard deviations]")
    latent_rho: float = Field(ge=0, lt=1, description="correlation of the latent noise of neighbouring frames in a rollout")
    training: FlowLoopParams


class FlowParams(Section):
    """ExpFlow, PoseFlow and the regression baseline; ``variants`` are overlays, one model each."""

    model: Literal["flow", "regression"] = Field(description="regression: the deterministic model of equal size and conditions")
    replicate: int = Field(
        ge=0, le=1000, description="number of the training among several that differ by their seed alone; 0 is the first"
    )
    corrupted_share: float = Field(ge=0, le=1, description="share of the training frames whose expression is replaced by a random one")
    prior: Literal["smm", "gmm", "gaussian"] = Field(description="latent of ExpFlow; smm and gmm have a component per emotion")
    nu: float = Field(gt=0, le=1000, description="degrees of freedom of the Student's t")
    separation: float = Field(ge=0, le=50, description="distance between two component means [component scales]")
    actnorm: Literal["multi", "shared"] = Field(description="multi: scale and bias per emotion")
    coupling: Literal["transformer", "lstm"] = Field(description="network inside the couplings")
    residual: bool = Field(description="model what the audio conditioner leaves over, rather than the change since the source frame")
    history_dropout: float = Field(ge=0, le=1, description="probability that a history frame is zeroed, in windows with dropout")
    history_dropout_share: float = Field(ge=0, le=1, description="share of windows with history dropout")
    history_noise: float = Field(ge=0, le=2, description="noise on the history in training [standard deviations]")
    latent_rho: float = Field(ge=0, lt=1, description="correlation of the latent noise of neighbouring frames in a rollout")
    flow_steps: int = Field(ge=1, le=64, description="K")
    width: int = Field(ge=8, le=1024, description="width of tokens and couplings")
    heads: int = Field(ge=1, le=32, description="attention heads; divides width")
    coupling_layers: int = Field(ge=1, le=8, description="layers of each coupling network")
    encoder_layers: int = Field(ge=0, le=12, description="self-attention layers over the condition tokens")
    audio_width: int = Field(ge=8, le=1024, description="channels of the flow's own audio encoder")
    dropout: float = Field(ge=0, lt=1, description="dropout in the encoders")
    scale_bound: float = Field(gt=0, le=5, description="largest absolute log-scale of a coupling")
    tau: int = Field(ge=1, le=100, description="recent history [frames]")
    frames_per_token: int = Field(ge=1, le=100, description="history frames that one token embeds; divides tau")
    long_frames: int = Field(ge=0, le=1000, description="strided long history of the lids, 0 for none [frames]")
    long_stride: int = Field(ge=1, le=100, description="frames per bin of the long history; divides long_frames")
    order: int = Field(ge=0, le=4, description="order of the stable linear prediction whose innovations the flow models")
    marginals: bool = Field(description="make each dimension's innovations normal by a fixed monotone map before the flow")
    innovation_clamp: float = Field(gt=0, le=100, description="largest innovation in a rollout [standard deviations]")
    min_sd: float = Field(
        ge=0, le=1, description="dimensions that vary less over the training frames are filled with their mean [coefficient units]"
    )
    dequantisation: float = Field(
        ge=0, le=1, description="noise on what is modelled, in training and in the held-out likelihood [standard deviations]"
    )
    mel_gain: float = Field(ge=0, le=4, description="largest change of the sound's level in training [mel units]")
    mel_shift: int = Field(ge=0, le=20, description="largest shift of the mel bins in training [bins]")
    mel_noise: float = Field(ge=0, le=2, description="noise on the mel in training [mel units]")
    calibration_rounds: int = Field(
        ge=0, le=10, description="rounds that scale a rollout's innovations until residuals vary as the real ones"
    )
    window: int = Field(ge=2, le=1000, description="frames of a training window")
    conditioner: ConditionerParams
    training: FlowLoopParams
    lids: LidParams
    pose: PoseParams
    variants: dict[str, dict[str, Any] | None] = Field(description="named overlays of this section, one model each")

    @model_validator(mode="after")
    def _sizes_divide(self) -> FlowParams:
        for name, whole, part in (
            ("width / heads", self.width, self.heads),
            ("pose.width / pose.heads", self.pose.width, self.pose.heads),
            ("tau / frames_per_token", self.tau, self.frames_per_token),
            ("long_frames / long_stride", self.long_frames, self.long_stride),
        ):
            if whole % part:
                raise ValueError(f"{name}: {whole} is not a multiple of {part}")
        return self
