"""The same sentences in many languages: examples of translations, for the prompt of a stock chat model.

A small model answers a question or repeats it where it should translate it; after examples it does so less often.
"""

from typing import Final

EXAMPLES: Final[dict[str, tuple[str, ...]]] = {
    "ar": ("أين وضعت مفاتيحي؟", "لا تنتظرني، سأتأخر الليلة."),
    "bg": ("Къде сложи ключовете ми?", "Не ме чакай, тази вечер ще закъснея."),
    "cs": ("Kam jsi dal moje klíče?", "Nečekej na mě, dnes večer přijdu pozdě."),
    "da": ("Hvor har du lagt mine nøgler?", "Vent ikke på mig, jeg kommer sent i aften."),
    "de": ("Wo hast du meine Schlüssel hingelegt?", "Warte nicht auf mich, ich komme heute Abend spät."),
    "el": ("Πού έβαλες τα κλειδιά μου;", "Μη με περιμένεις, θα αργήσω απόψε."),
    "en": ("Where did you put my keys?", "Don't wait for me, I'll be late tonight."),
    "es": ("¿Dónde has puesto mis llaves?", "No me esperes, esta noche llegaré tarde."),
    "et": ("Kuhu sa mu võtmed panid?", "Ära mind oota, ma jään täna õhtul hiljaks."),
    "fi": ("Mihin laitoit avaimeni?", "Älä odota minua, tulen tänä iltana myöhään."),
    "fr": ("Où as-tu mis mes clés ?", "Ne m'attends pas, je rentrerai tard ce soir."),
    "he": ("איפה שמת את המפתחות שלי?", "אל תחכה לי, אני אאחר הערב."),
    "hi": ("तुमने मेरी चाबियाँ कहाँ रखीं?", "मेरा इंतज़ार मत करो, आज रात मुझे देर होगी।"),
    "hr": ("Gdje si stavio moje ključeve?", "Ne čekaj me, večeras ću zakasniti."),
    "hu": ("Hová tetted a kulcsaimat?", "Ne várj rám, ma este késni fogok."),
    "id": ("Di mana kamu menaruh kunciku?", "Jangan tunggu aku, malam ini aku pulang terlambat."),
    "it": ("Dove hai messo le mie chiavi?", "Non aspettarmi, stasera farò tardi."),
    "ja": ("私の鍵をどこに置いたの？", "待たないで、今夜は遅くなるから。"),
    "ko": ("내 열쇠를 어디에 뒀어?", "나를 기다리지 마, 오늘 밤에 늦을 거야."),
    "lt": ("Kur padėjai mano raktus?", "Nelauk manęs, šįvakar vėluosiu."),
    "lv": ("Kur tu noliki manas atslēgas?", "Negaidi mani, šovakar es kavēšos."),
    "nl": ("Waar heb je mijn sleutels gelegd?", "Wacht niet op mij, ik kom vanavond laat."),
    "no": ("Hvor har du lagt nøklene mine?", "Ikke vent på meg, jeg kommer sent i kveld."),
    "pl": ("Gdzie położyłeś moje klucze?", "Nie czekaj na mnie, dziś wieczorem się spóźnię."),
    "pt": ("Onde você colocou as minhas chaves?", "Não espere por mim, vou chegar tarde hoje à noite."),
    "ro": ("Unde mi-ai pus cheile?", "Nu mă aștepta, o să întârzii diseară."),
    "ru": ("Куда ты положил мои ключи?", "Не жди меня, сегодня вечером я приду поздно."),
    "sk": ("Kam si dal moje kľúče?", "Nečakaj na mňa, dnes večer prídem neskoro."),
    "sl": ("Kam si dal moje ključe?", "Ne čakaj me, nocoj bom pozen."),
    "sv": ("Var har du lagt mina nycklar?", "Vänta inte på mig, jag kommer sent i kväll."),
    "th": ("คุณเอากุญแจของฉันไปไว้ที่ไหน", "ไม่ต้องรอฉัน คืนนี้ฉันจะกลับดึก"),
    "tr": ("Anahtarlarımı nereye koydun?", "Beni bekleme, bu akşam geç kalacağım."),
    "uk": ("Куди ти поклав мої ключі?", "Не чекай на мене, сьогодні ввечері я прийду пізно."),
    "vi": ("Bạn để chìa khóa của tôi ở đâu?", "Đừng đợi tôi, tối nay tôi sẽ về muộn."),
    "zh": ("你把我的钥匙放在哪儿了？", "别等我，我今晚会晚到。"),
}
"""A question and two clauses with a negation, by the code of the language."""


def examples(source_language: str, target_language: str) -> list[tuple[str, str]]:
    """Return sentences and their translations; none where a language is unknown, or both are the same."""
    if source_language == target_language:
        return []
    return list(zip(EXAMPLES.get(source_language, ()), EXAMPLES.get(target_language, ()), strict=False))
