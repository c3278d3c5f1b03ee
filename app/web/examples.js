// Invented news, by language, so that the first click shows something.

const EXAMPLES = {
  en: `Scientists have found a coral reef the size of Manhattan in deep water off the coast of Brazil, the research ministry said on Thursday. The reef lies 120 metres below the surface, where sunlight hardly reaches, and is home to at least 40 species that had never been described.

The team mapped it with a diving robot during a voyage of six weeks. Most of the corals are more than 500 years old and show no sign of the bleaching that has damaged reefs in warmer, shallower water.

“We went down to look at mud,” said Lucia Prado, who led the expedition. “Then the lamps came on and everything was orange.” The ministry wants to ban fishing with nets within 30 kilometres of the site.`,
  zh: `格林河大桥3月18日正式通车。大桥全长4.2公里，双向六车道，设计时速80公里，总投资15.6亿元。

通车后，两岸居民过江时间由原来的40分钟缩短到5分钟。当地还同步开通三条公交线路，方便群众出行。`,
};

export function exampleOf(language) {
  return EXAMPLES[language.split("-")[0]] ?? EXAMPLES.en;
}

export function isExample(text) {
  return Object.values(EXAMPLES).includes(text);
}
