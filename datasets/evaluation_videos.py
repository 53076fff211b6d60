"""Videos that benchmarks are scored on: a teacher does not label them, and a student does not train on them.

Known without any file are the videos of Ref-YouTube-VOS valid and test (507 ids) and of Ref-DAVIS17 val (30). Lists of
others (MeViS's valid_u, valid and test, a project's own) are read from their meta_expressions.json, or from a text
file of one id a line. Ids alone miss a video that was put online again under another name.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

from datasets import tree
from util.errors import InputError


def evaluation_videos(files: Iterable[Path] = ()) -> frozenset[str]:
    """Ids of the known benchmarks' videos and of those in `files`. Raises InputError for a file that cannot be read."""
    listed = set(_REF_YOUTUBE_VOS.split()) | set(_REF_DAVIS17.split())
    for path in files:
        if path.suffix == ".json":
            listed |= set(tree.read_videos(path))
            continue
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except (OSError, ValueError) as error:
            raise InputError(f"cannot read {path}: {error}; give a meta_expressions.json or a text of ids") from error
        listed |= {line.strip() for line in lines if line.strip() and not line.startswith("#")}
    return frozenset(listed)


def fingerprint(listed: frozenset[str]) -> str:
    """sha256 of a list, which a data set made without its videos notes."""
    return hashlib.sha256("\n".join(sorted(listed)).encode()).hexdigest()


def refuse(ids: Iterable[str], listed: frozenset[str], what: str, instead: str) -> None:
    """Raises InputError where `ids` has some of `listed`: `what` has them, and `instead` says what to do."""
    found = sorted(set(ids) & listed)
    if found:
        more = f" and {len(found) - 3} more" if len(found) > 3 else ""
        raise InputError(f"{what} has evaluation videos of known benchmarks ({', '.join(found[:3])}{more}); {instead}")


_REF_YOUTUBE_VOS = """
    0062f687f1 00f88c4f0a 01057faacf 01c88b5b60 03664dc880 0390fabe58 03a2bade84 03deb7ad95 03f0ee1b15 03faedf2a3
    03fe6115d4 0557542e8d 056a2ff390 0620b43a31 06a5dfb511 06cd94d38d 06d67bec61 0723d7d4fe 0782a6df7e 0788b4033d
    084024abd4 088ecad2e7 0a49f5265b 0a598e18a8 0b0c90e21a 0b97736357 0c03a24f41 0c04834d61 0c7a4680db 0d284ff4c2
    0d349f8286 0daaddc9da 0e4068b53f 0e487d0704 0e8a6b63bb 0f3f8b2b2f 0fe514d198 1190ce1f29 119739ba0b 129db5183f
    12b8e47f00 1320830fd2 1335b16cf9 13bd6905e0 13c3cea202 13ca7bbcfd 14adc6c2dd 152fe4902a 17cba76927 182dbfd6ba
    188cb4e03d 193aa74f36 19904980af 19cde15c4b 1a1dbe153e 1a609fa7ee 1a894a8f98 1ab5f4bbc5 1b85035216 1bcd8a65de
    1c1847cf16 1c21edce1f 1e0257109e 1e20ceafae 1e6efb0b5f 1ecc34b1bf 1eddb188fb 1ee3d7e80b 1f1396a9ef 1f390d22ea
    209d4e0c67 20a93b4c54 21198a32d0 218ac81c2d 219972e55d 226f1e10f7 2298c08804 2298c7082a 246e38963b 24947a9f29
    24cc355e7f 24e2b52a4d 257f7fd5b8 25d4cf3b33 25e493e6d3 282651c6f7 282fe3f4eb 285075c31a 299a395fc6 29b1f7884d
    29c06df0f2 2a107193a9 2a12e3b10e 2ac37d171d 2b7daccdbe 2b904b76c9 2caa2b45c7 2e129b0b09 2e21c7e59b 2e28ab2e1c
    30b9e9305e 30ba96f77d 30fe0ed0ce 31d3a7d2ee 31e0beaf99 31eed64ce8 332dabe378 335fc10235 336e39f18d 33c8dcbe09
    33e8066265 33f64e8567 3401d58137 34564d26d8 345f4f91b7 34d66886bf 352ad66724 35948a7fca 35d5e5149d 3674b2c70a
    369919ef49 3797e48311 37b4ec2e1a 37dc952545 38c0557072 397dccb3a0 39b7491321 39bce09d8d 3a3a46538d 3b72dc1941
    3be852ed44 3c5fbaa1d6 3c872b8a11 3dd327ab4e 3e03f623bb 3e35d85e4b 3f2012d518 3f4bacb16a 3f99366076 3fc9e61451
    4035d3275c 4037d8305d 40718bb478 411774e9ff 41f6d1f137 4241e68e72 4294ab03bf 42d810ba9d 4307020e0f 43115c42b2
    431a8b7d53 4348676053 43c166a5d9 44e5d1a969 450bd2e238 459e70cd8e 45d898acc4 45dc90f558 45fd60997a 466734bc5c
    467083d23b 46e04db040 4723b82c19 47d01d34c8 48b5ddd1f9 48d2909d9e 490e4a2e6b 49359e93f1 49467091f3 4aed021c38
    4b1a561480 4b31a18d91 4b783f1fc5 4bef684040 4cad0fed85 4d20b9d081 4d5137f9cf 4d6cd98941 4df42f72c9 4e132f2efb
    4ee0105885 4f4396e766 4f5b3310e3 4f6662e4e0 4fe6619a47 5068262dd1 51044fca91 519ba2838a 5221c861e5 534806a13a
    53de5f99b7 53edbc6b8a 54173b8646 541ccb0844 54526e3c66 5460cc540a 547416bda1 54ad024bb3 5578bd82a4 559a611d86
    563a62b8a7 5664d75193 566fd6df6e 56e991f4a6 572a1c270c 5795082481 5a7ffc2900 5ab666bc9d 5b22af4c5d 5c3d2d3155
    5d2020eff8 5f697fc636 5f8241a147 5fcb0b5006 6031809500 60362df585 607001c98f 60d89bf141 6142dee608 61fca8cbf1
    621487be65 623d24ce2b 62bf7630b3 63883da4f5 63a68c6741 63ca8970d9 63ce702987 64c6f2ed76 65350fd60a 65e0640a2a
    661f34feeb 6683dff3be 67add1386d 67e397b1f2 68dab8f80c 690219db91 69287dcea1 696e01387c 69c0f7494e 6a75316e99
    6ae0cac484 6aef3fd036 6b84e6082b 6ca84fa2b7 6cb5b08d93 6cc8bce61a 6cced81d30 6dd4315dbd 6eaf926e75 6fc71a916a
    711dddc17d 72d613f21a 73f88c3295 749f1abdf9 7583825418 7741a0fbce 7775043b5e 77852f05dc 778880713c 77a5976b9f
    77bec90101 77df215672 7836afc0c2 79c88d186a 7a19a80b19 7a43728d34 7a72130f21 7ae99f057c 7bf1b5f090 7c175bb1bd
    7daa6343e6 7e625db8c4 7f26b553ae 7fb4f14054 815744f806 82146cb765 822c31928a 8273b59141 83a5056a16 83d4036135
    83e191560a 853ca85618 85968ae408 872e4874f6 87d69a8e70 88401f57bc 88637e7707 88b8558fbc 8939473ea7 8aa47fac99
    8b1c5375a3 8b7b57b94d 8c60938d92 8d5ca82f5c 8d803e87f7 8dea7458de 8e2e5af6a8 8e8a9f113c 8ff95fd16c 90949b2059
    914809f63a 91f5ad52e9 92fde455eb 93231306d3 93cdefdd7d 945314d8ef 94fa9bd3b5 95ef69d827 966ff91e06 975be70866
    9787f452bf 97b38cabcc 97ce735082 97fa40286c 98fad773a3 996bebe636 9a38b8e463 9b01dd1f72 9c0b55cae5 9c4419eb12
    9c693f291b 9c81364fc6 9ce299a510 9d224c6d58 9d3b4d6a45 9da2156a73 9f16d17e42 9f21474aca 9f31f31abe 9f429af409
    9fd2d2782b a00c3fa88e a0fc95d8fc a1251195e7 a252a1cebf a2948d4116 a39716dfbc a46012c642 a4bce691c6 a6569911cb
    a7462d6aaf a806e58451 a9839ec6f2 a9cee00b66 a9f23c9150 ab616efa3b ab78bc373e ab9a7583f1 aba4dd6800 abae1ce57d
    ac4653b61d aceb34fcbe ad36e87359 ae69fd34ca aeba5e64a3 af2e92054e b005747fee b00ff71889 b05faf54f7 b0c23d7ea0
    b175cd8138 b1a8a404ad b205d868e6 b2256e265c b28950ec3a b36b97da28 b3b92781d9 b48dbef3cb b492f67a89 b4e75872a0
    b5514f75d8 b58a97176b b715879d5a b772ac822a b7928ea5c0 b7b7e52e02 b83923fd72 b8bd20a472 b8f2da917b b90f8c11db
    b9cab519bc ba3f4377e3 ba5dde67e9 ba62a7ac80 ba8823f2d2 bae722c3bb bbbcd58d89 bc9ba8917e bd1321fbdb bd1b5d9373
    be0daed38a bf2d38aefe bf4cc89b18 bf94d70fe6 bfe7124077 c076f746dd c16d9a4ade c280d21988 c2bbd6d121 c3b5114911
    c42fdedcdd c4efecb3d8 c5913cb931 c74fc37224 c7ae3f5883 c7f7ae8ff5 c84a452ec6 c97e4b8040 c9ef04fe59 cb06f84b6e
    cbea8f6bea cc012159f8 cc1a82ac2a cc4e552d33 cc7c3138ff cd69993923 cd896a9bee cdcfd9f93a ce90dac146 cf2b9a29e2
    d051af3bd0 d07e930093 d0a54ea614 d144f4b0fe d18261a36f d1ac0d8b81 d1dc5a71e1 d1dd586cfd d24f2b622b d2df38e6fb
    d32eb24b4b d3e3775402 d56abea32c d59c093632 d69812339e d7529458c6 d76ee8fa19 d79729a354 d7a38bf258 d7ff44ea97
    d975e5f4a9 d9b02f8fb3 da0787f037 da9713ef3e dab44991de dbc24f8850 dc197289ef dc80909282 dcd174cc54 dce363032d
    ddad47a408 dea0160a12 deceeea259 deed0ab4fc df4750a8fe e027ebc228 e10236eb37 e11254d3b9 e1925724ab e240329447
    e24bcc1f3a e3b7297be4 e4f4ccd30d e5a7bc718e e633eec195 e765959dd4 ea7063a3d9 eac28d985f eb263ef128 eb49ce8027
    ebe7138e58 ec7cd942e3 ed316ec1af ee9415c553 eea1a45e49 eeb18f9d47 eece779685 efdc251e17 f054e28786 f11eb3247c
    f143fede6f f1ccd08a3d f2a45acf1c f3678388a7 f39c805b54 f3b90a0f87 f58212429d f6ed698261 f7255a57d0 f78b3f5f34
    f7d7fb16d0 f7f23d556a f9087a5a0c f99dae3620 f9eedb8691 fab725059c fb104c286f fc50159052 fd5bf99712 fd8cf868b2
    fdd821595c fe18f806fb fef7e84268 ff14721af5 ff6eb95840 ffcc04a0c2 ffd7c15f47
"""

_REF_DAVIS17 = """
    bike-packing blackswan bmx-trees breakdance camel car-roundabout car-shadow cows dance-twirl dog dogs-jump
    drift-chicane drift-straight goat gold-fish horsejump-high india judo kite-surf lab-coat libby loading
    mbike-trick motocross-jump paragliding-launch parkour pigs scooter-black shooting soapbox
"""
