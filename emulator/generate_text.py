"""The words generated organisations are made of: invented companies, common names, quotes, markup and non-ASCII."""

from __future__ import annotations

COMPANIES = (
    *("Alder & Ash", "Bergström", 'The "Old" Mill', "Cobalt <Systems>", "Dunmore", "O'Brien & Söhne"),
    *("Halcyon 株式会社", "Ibis", "Juniper", "Kestrel", "Larkspur", "Meridian", "Nettle & Co.", "Orchard"),
)
CITIES = (
    *("Aarhus", "Bilbao", "Cork", "Dresden", "Évora", "Fukuoka"),
    *("Göteborg", "Haifa", "İzmir", "Jaén", "Kraków", "Lyon"),
)
GIVEN_NAMES = (
    *("Ada", "Béatrice", "Chidi", "Dorothy", "Emeka", "Freya", "Gustav"),
    *("Hana", "Idris", "Jun", "健太", "Lena", "Mateo", "Nadia"),
)
FAMILY_NAMES = (
    *("Lindqvist", "O'Hara", "Okonkwo", "Vance", "Castellanos", "Holm"),
    *("Inoue", "Petrović", "Novák", "佐藤", "Müller", "Rivas"),
)
PRODUCTS = (
    *("Cold storage", "Sensor network", "Delivery vans", "Fire doors"),
    *("Office refit", "Solar roof", "Data room", "Packaging line"),
)
STAKEHOLDER_ROLES = (
    *("Stakeholder", "Champion", "Decision Maker", "End User"),
    *("Economic Buyer ", "Influencer", "Technical Buyer"),
)
ROLES: tuple[tuple[str, int], ...] = (
    *((name, 1000) for name in STAKEHOLDER_ROLES),
    *(("Account Manager", 1001), ("Delivery Professional", 1001), ("Service Professional", 1002)),
    *(("Colleague", 1), ("Friend", 3)),
)
"""Name and category of each connection role; category 1000 is Stakeholder."""
SENTENCES = (
    'They asked for a second offer, "as soon as possible", with the delivery dates of every part.',
    "Besichtigung vor Ort ist vereinbart; die Maße der Türöffnungen fehlen noch.",
    "Budget is approved; procurement wants three references <b>before</b> signing & a service contract.",
    "Competitor is 8 % cheaper but cannot deliver before autumn.\nCall again after the board meets.",
    "La décision dépend du comité d'investissement, qui se réunit chaque premier mardi du mois.",
)
