"""Words whose full stop does not end the sentence, by language; and words that begin sentences.

`worker.core.sentences` applies them. The entries have no last full stop and are lower case, except single letters,
where case counts: `p.` is a page, `P.` an initial.
"""

from typing import Final

NEVER: Final = {
    "": "mr mrs ms messrs dr prof vs cf e.g i.e viz approx col maj sgt lt capt ft",
    "en": "gen cpt cmdr adm rev hon sen rep gov pres supt mt incl resp",
    "fr": "M mm mgr mlle mme me av apr env c.-à-d éd tél boul bd",
    "de": "bzw ca d.h z.b u.a v.a i.d.r z.t o.ä u.u s.o s.u z z.zt a b d h i m n o s t u v evtl ggf inkl exkl zzgl "
    "bspw vgl sog geb gest verh hr hrn fr frl dipl ing hl hrsg tel röm griech abk anm bez einschl",
    "es": "sr sra srta sres D dña ud uds vd vds p.ej ej dra lic ing gral aprox tel avda av excmo",
    "it": "sig sigg sig.ra dott dott.ssa ing avv on p.es es gent egr tel ca",
    "pt": "sr sra srta dra exmo exma p.ex eng tel aprox av",
    "nl": "dhr mevr mw mej bijv bv d.w.z m.a.w o.a ir drs ds st m.b.t t.a.v i.v.m t.o.v",
    "ru": "т т.е н им ул проф акад св ст см рис стр гл тел",
    "hi": "डॉ श्री पं प्रो कु स्व सुश्री रु",
}
"""A sentence never ends here: titles, and abbreviations in the middle of a clause."""

BEFORE_NUMBER: Final = {
    "": "nr pp",
    "en": "no nos p fig figs vol vols ch sec eq",
    "fr": "n no p art ch chap fig vol",
    "de": "nr abb abs art bd kap",
    "es": "p núm n.º pág págs art",
    "it": "p pag art cap fig",
    "pt": "p n.º pág págs art fig",
    "nl": "nr blz art afb",
}
"""Part of the number that follows, otherwise an ordinary word: "No. 5", but "Did he come? No. He was at home."."""

BEFORE_CAPITAL: Final = {
    "": "etc inc ltd co corp jr sr bros gmbh llc plc est dept al "
    "jan feb mar apr jun jul aug sep sept oct nov dec a.m p.m a.d b.c b.c.e",
    "fr": "janv févr avr juil déc",
    "de": "usw mrz okt dez usf",
    "es": "ene abr ago dic",
    "it": "ecc gen mag giu lug ago set ott dic",
    "pt": "fev abr ago set out dez",
    "nl": "enz mrt okt",
    "ru": "г гг д п э др пр тыс млн млрд руб т.д т.п",
}
"""A sentence ends here if the next word has the capital of a sentence's first word."""

BEFORE_STARTER: Final = {
    "en": "st ave blvd rd",
    "fr": "st ste ex j-c",
    "de": "st str jh mio mrd chr",
    "es": "ee uu",
    "pt": "ex",
}
"""A sentence ends here if the next word often begins sentences. The same holds for `U.S.`, `Ph.D.` and initials."""

CALENDAR: Final = (
    "january february march april may june july august september october november december monday tuesday wednesday "
    "thursday friday saturday sunday est edt cst cdt mst mdt pst pdt gmt utc cet cest bst eastern pacific"
)
"""Words with a capital that begin no sentence behind a time of day."""

ORDINALS: Final = "de da nb nn no fi et lv cs sk sl hr bs hu pl tr is lb"
"""Languages that write `3.` for 3rd."""

STARTERS: Final = {
    "en": "the a an he she it we they you i this that these those there here his her its our their my your what when "
    "where who why how which but and or so if in on at by for from with as after before because although though while "
    "however then thus since until yes no not please thank thanks let do does did don is are was were can could will "
    "would should have has had all some many most both each every now today yesterday tomorrow tonight later meanwhile "
    "also even still just only maybe perhaps",
    "fr": "le la les un une des il elle ils elles on je j tu nous vous ce cet cette ces c cela ça mais et ou donc or "
    "car si s dans en sur pour par avec sans puis alors ensuite oui non merci qui que qu quand où comment pourquoi son "
    "sa ses mon ma mes notre nos votre vos leur leurs l d n après avant depuis aujourd hier demain maintenant",
    "de": "der die das den dem des ein eine einen einem einer er sie es wir ich ihr du man dies diese dieser dieses "
    "diesen und aber oder denn doch wenn weil als da dann danach dort hier heute gestern morgen in im an am auf mit "
    "nach von vom vor zu zum zur bei beim für aus um was wer wo wie warum wann ja nein danke bitte sein seine mein "
    "meine unser unsere auch nun jetzt so nicht kein keine alle viele seit während trotzdem deshalb",
    "es": "el la los las un una unos él ella ellos ellas yo tú nosotros ustedes usted esto este esta estos estas eso "
    "pero y o si en por para con sin desde cuando donde qué quién cómo sí no gracias su sus mi mis nuestro también hoy "
    "ayer mañana ahora después entonces hay es fue",
    "it": "il lo la i gli le l un uno una lui lei noi voi loro io tu questo questa questi queste ma e o se in per con "
    "da di quando dove chi che come sì no grazie suo sua mio mia nostro anche oggi ieri domani ora poi è era",
    "pt": "o a os as um uma ele ela eles elas eu nós você vocês isto este esta estes isso mas e ou se em no na por "
    "para com sem desde quando onde quem como sim não obrigado seu sua meu minha também hoje ontem amanhã agora depois "
    "então é foi",
    "nl": "de het een hij zij ze wij we ik jij je jullie dit dat deze die er maar en of dus want als in op aan bij met "
    "van voor naar uit om toen nu vandaag gisteren morgen wat wie waar hoe waarom wanneer ja nee dank zijn haar mijn "
    "ons onze ook niet geen alle veel",
}
"""Frequent first words of sentences, cut at an apostrophe; no name begins with them."""
