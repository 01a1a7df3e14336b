"""Try poolbench.swap on many nets of torchvision and timm, and say where it could and could not put a pool.

    python scripts/check_swap.py                      # about 150 nets; half an hour on one core
    python scripts/check_swap.py resnet18 timm:dla34  # these
    python scripts/check_swap.py --pool lip           # another pool than max
    python scripts/check_swap.py --head gem           # as model=custom takes them, with another head, at a small size

What is checked of each, with random weights:

- with ``subsample`` at its strided convolutions alone it gives the logits that it gave before;
- with the pool everywhere, its output has the shape that it had, here and (where the net takes it) for larger images;
- no weight of it changed, it trains a step, and it comes back from pickle;
- where torch.fx can trace the net, it can trace the swapped one, with its values, and torchvision finds the same nodes.

With ``--head`` that alone: that the head is found a place, and gives logits and gradients.

Ends with status 1 if one of them failed.
"""

import argparse
import copy
import pickle
import sys
import time
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torchvision import models
from torchvision.models.feature_extraction import get_graph_node_names

from poolbench.models.own_net import as_trunk
from poolbench.models.sites import Heads, Sites, build
from poolbench.models.survey import image_size
from poolbench.models.swap import swap

LARGE = 60e6  # parameters; larger nets of torchvision are kin of smaller ones
TIMM = """
    resnet10t resnet18d resnet26t resnetblur18 resnetaa34d resnext26ts seresnet18 ecaresnet26t skresnet18
    resnetv2_18 resnetv2_50x1_bit res2net50d res2next50 hrnet_w18_small hrnet_w18_small_v2 dla34 dla46x_c dpn68
    densenetblur121d vovnet39a ese_vovnet19b_slim selecsls42b regnetx_002 regnety_002 regnetz_005 nf_resnet26
    eca_nfnet_l0 dm_nfnet_f0 gernet_s repvgg_a0 mobileone_s0 darknet17 cspresnet50 cspdarknet53 xception41
    legacy_xception inception_v3 inception_v4 inception_resnet_v2 mobilenetv1_100 mobilenetv2_050
    mobilenetv3_small_050 mobilenetv4_conv_small mobilenetv4_hybrid_medium tf_efficientnet_b0
    tf_mobilenetv3_small_100 efficientnet_lite0 tf_efficientnetv2_b0 tf_efficientnet_cc_b0_4e mixnet_s tf_mixnet_s
    ghostnet_050 ghostnetv2_100 ghostnetv3_050 repghostnet_050 rexnet_100 tinynet_e lcnet_035 fbnetc_100 mnasnet_050
    hardcorenas_a hgnet_tiny hgnetv2_b0 starnet_s050 rdnet_tiny convnext_atto convnext_atto_ols convnextv2_atto
    inception_next_atto edgenext_xx_small mobilevit_xxs mobilevitv2_050 fastvit_t8 repvit_m0_9 efficientvit_b0
    efficientvit_m0 efficientformer_l1 efficientformerv2_s0 poolformer_s12 pvt_v2_b0 levit_conv_128s levit_128s
    coatnet_nano_rw_224 maxvit_pico_rw_256 visformer_tiny nextvit_small tiny_vit_5m_224 botnet26t_256
    lambda_resnet26t halonet26t tresnet_m focalnet_tiny_srf mambaout_femto swin_tiny_patch4_window7_224
    vit_tiny_patch16_224 test_byobnet
"""


def builder(name: str) -> tuple[Callable[..., nn.Module], dict[str, Any]]:
    """What builds the net, and its options."""
    if name.startswith("timm:"):
        import timm

        return timm.create_model, {"model_name": name.removeprefix("timm:"), "pretrained": False}
    options = {"aux_logits": False, "init_weights": True} if name in ("googlenet", "inception_v3") else {}
    return models.get_model_builder(name), options


def make(name: str) -> nn.Module:
    function, options = builder(name)
    return function(**options)


def check_head(name: str, pool: str, head: str) -> str:
    """The row of one net with another head, for images of 64 pixels (96 for inception_v3, 224 for transformers of one
    size). Raises: whatever went wrong."""
    function, options = builder(name)
    side = 224 if any(part in name for part in ("vit_", "maxvit_")) else 96 if "inception" in name else 64
    net = build(as_trunk(function, 7), Sites(pool, 0), Heads(head), 7, (side, side), 0, options)
    logits = net.train()(torch.randn(2, 3, side, side))
    assert logits.shape == (2, 7), f"logits are {tuple(logits.shape)}"
    logits.square().mean().backward()
    gradient = next(p.grad for p in net.features.parameters())
    reached = gradient is not None and bool(gradient.isfinite().all() and gradient.any())
    assert reached, "no gradient reaches the first layer"
    return f"{net.channels} channels before {head}"


def all_names() -> list[str]:
    large = ("vit_", "swin", "maxvit", "_16gf", "_32gf", "_128gf", "101", "152", "_b5", "_b6", "_b7", "v2_m", "v2_l")
    torchvision = [name for name in models.list_models(module=models) if not any(part in name for part in large)]
    return [*torchvision, "swin_t", "maxvit_t", "vit_b_16", *(f"timm:{name}" for name in TIMM.split())]


def check(name: str, pool: str) -> str:
    """The row of one net. Raises: whatever went wrong."""
    torch.manual_seed(0)
    net = make(name).eval()
    if sum(p.numel() for p in net.parameters()) > LARGE and not name.startswith(("vgg", "alexnet")):
        return "too large to try"
    size = image_size(net, (299, 299) if name == "inception_v3" else None)
    images = torch.randn(2, *size)
    with torch.no_grad():
        before = net(images)
        same = swap(copy.deepcopy(net), "subsample", sites="strided", input_size=size)(images)
    torch.testing.assert_close(same, before, rtol=1e-3, atol=1e-4 * before.abs().max().item())
    weights = {key: value.clone() for key, value in net.state_dict().items()}
    nodes = None if _traced(net) is None else get_graph_node_names(net)
    larger = torch.randn(1, size[0], size[1] + 37, size[2] + 64)
    takes_larger = _shape(net, larger) is not None
    swap(net, pool, input_size=size)
    assert all(torch.equal(net.state_dict()[key], value) for key, value in weights.items()), "a weight changed"
    assert _shape(net, images) == before.shape, "another shape"
    assert not takes_larger or _shape(net, larger) is not None, "larger images are refused"
    again = pickle.loads(pickle.dumps(net))
    with torch.no_grad():
        assert torch.equal(again(images), net(images)), "pickle changed it"
    if nodes is not None:
        traced = _traced(net)
        assert traced is not None, "torch.fx cannot trace it any more"
        with torch.no_grad():
            torch.testing.assert_close(traced(images), net(images))
        assert get_graph_node_names(net) == nodes, "torchvision finds other nodes"
    net.train()
    loss = net(images).square().mean()
    loss.backward()
    assert loss.isfinite(), "the loss is not finite"
    reasons = sorted({entry.reason for entry in net.swap_report.skipped})
    return f"{len(net.swap_report.replaced):3d} {len(net.swap_report.skipped):3d}  {'; '.join(reasons)}"


def _traced(net: nn.Module) -> torch.fx.GraphModule | None:
    try:
        return torch.fx.symbolic_trace(net)
    except Exception:  # whatever a net does that cannot be followed
        return None


def _shape(net: nn.Module, images: torch.Tensor) -> torch.Size | None:
    try:
        with torch.no_grad():
            return net(images).shape
    except (RuntimeError, AssertionError, ValueError):
        return None


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="of torchvision, or timm:NAME; default: many")
    parser.add_argument("--pool", default="max", help="as poolbench list has it")
    parser.add_argument("--head", help="as poolbench list has it: look at it alone")
    chosen = parser.parse_args()
    failed = []
    print("seconds  net: what its head sees" if chosen.head else "seconds  net: sites replaced, skipped, why")
    for name in chosen.names or all_names():
        start = time.perf_counter()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # the numbers say it too
                row = check_head(name, chosen.pool, chosen.head) if chosen.head else check(name, chosen.pool)
        except Exception as error:
            failed.append(name)
            row = f"FAILED {type(error).__name__}: {' '.join(str(error).split())[:300]}"
        print(f"{time.perf_counter() - start:7.1f}  {name}: {row}", flush=True)
    print(f"{len(failed)} failed: {' '.join(failed)}" if failed else "none failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
