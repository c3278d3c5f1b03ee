"""Texts to soak with: English abstracts of the committed sample, invented Chinese news, and what breaks offsets."""

import random
from collections.abc import Sequence

from benchmarks.texts import mixed_texts

PARTS = 4  # abstracts in a text that is too long for the model

CHINESE = (
    "格林河大桥3月18日正式通车，大桥全长4.2公里，双向六车道，总投资15.6亿元。",
    "通车后，两岸居民过江时间由原来的40分钟缩短到5分钟。",
    "当地还同步开通三条公交线路，方便群众出行。",
    "记者从市教育局了解到，今年秋季将新建12所小学，新增学位1.8万个。",
    "新学校全部配备食堂和图书馆，预计9月1日投入使用。",
    "气象台昨晚发布暴雨黄色预警，预计未来24小时沿海地区有大到暴雨。",
    "有关部门已转移低洼地带群众2300多人，目前没有人员伤亡报告。",
    "第六届国际茶叶博览会在湖州开幕，来自27个国家和地区的500多家企业参展。",
    "开幕当天签约项目48个，金额超过9亿元。",
    "科研人员在深海发现一片面积约60平方公里的珊瑚礁，其中多数珊瑚已生长500年以上。",
)
HARD = (
    "word",
    "Crème brûlée — naïve café, 😀 👩‍👩‍👧 and the 🇪🇨 flag: e\u0301, \u0301 alone, done.",
    "The council met\r\n\r\non Monday\tat\u00a0nine.\u3000It ended\u2028at ten, after 7 to 2.",
    "مرحبا بالعالم \u202e and back again\u202c, ﷺ once, said the mayor of Greyford.",
    "A text with \x00 and \x1f and \x85 inside, </s> and <s> and <pad>, Ġ and Ċ.",
    "in" + "de" * 400 + "cision",
    "2031 3.5 1,000,000 7-2 15:30 1e9 0x1F ½ ²³ Ⅷ 一二三 ٣٤٥",
    "北京 Beijing ，。 \u200b\u200d\ufeff mixed 文字 and words.",
)


def english(count: int) -> list[str]:
    return [*HARD[:count], *mixed_texts(count)]


def long(count: int) -> list[str]:
    abstracts = mixed_texts(4 * PARTS * count)[3::4]  # each fourth is a whole one
    return ["\n\n".join(abstracts[PARTS * place : PARTS * (place + 1)]) for place in range(count)]


def chinese(count: int, source: random.Random) -> list[str]:
    return ["".join(_some(CHINESE, source)) for _ in range(count)]


def _some(sentences: Sequence[str], source: random.Random) -> list[str]:
    return source.sample(sentences, source.randint(1, len(sentences) // 2))
