"""Word lists by country: names in their own script with a Latin form for e-mail, towns, streets, phone styles.

Invented people only. In a phone pattern `#` is any digit, `N` one of 2–9, `P` one of 1–9; the patterns give numbers
that are valid in the country's numbering plan.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Place:
    """A country as the generator sees it. Names are pairs of native and Latin form, separated by `|` where they differ."""

    code: str
    country: str
    share: float
    domain: str
    first_names: tuple[str, ...]
    last_names: tuple[str, ...]
    towns: tuple[tuple[str, str, str], ...]
    streets: tuple[str, ...]
    mobiles: tuple[str, ...]
    landlines: tuple[str, ...]
    companies: tuple[str, ...]


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


PLACES = (
    Place(
        "US",
        "United States",
        0.34,
        "com",
        _words(
            "James Mary Robert Patricia John Jennifer Michael Linda David Elizabeth William Barbara Richard Susan Joseph Jessica Thomas "
            "Karen Christopher Sarah Charles Lisa Daniel Nancy Matthew Sandra Anthony Ashley Mark Emily Steven Kimberly Andrew Donna "
            "Kenneth Michelle Joshua Carol Kevin Amanda Brian Melissa George Deborah Timothy Stephanie"
        ),
        _words(
            "Smith Johnson Williams Brown Jones Garcia Miller Davis Rodriguez Martinez Hernandez Lopez Gonzalez Wilson Anderson Thomas "
            "Taylor Moore Jackson Martin Lee Perez Thompson White Harris Sanchez Clark Ramirez Lewis Robinson Walker Young Allen King "
            "Wright Scott Torres Nguyen Hill Flores O'Brien McDonald Van-Buren St-James"
        ),
        (
            ("New York", "NY", "10022"),
            ("San Francisco", "CA", "94105"),
            ("Chicago", "IL", "60606"),
            ("Austin", "TX", "78701"),
            ("Boston", "MA", "02110"),
            ("Seattle", "WA", "98101"),
        ),
        ("{} Main St", "{} Park Ave", "{} Market Street", "{} N Michigan Ave", "{} Congress Ave, Suite 400"),
        ("(917) N##-####", "+1 415-N##-####", "312-N##-####", "512.N##.####", "+1617N######"),
        ("(212) N##-####", "+1 (628) N##-####", "773-N##-####", "1-206-N##-####", "737 N## ####"),
        ("Inc.", "LLC", "Corp.", "Group", "Holdings"),
    ),
    Place(
        "GB",
        "United Kingdom",
        0.11,
        "co.uk",
        _words(
            "Oliver Amelia George Isla Harry Ava Jack Mia Noah Ivy Leo Lily Arthur Freya Oscar Poppy Charlie Siân|Sian Eilidh Niamh"
        ),
        _words(
            "Evans Roberts Hughes Edwards Green Wood Hall Clarke Turner Cooper Ward Baker Harrison Bennett Shaw Ap-Rhys O'Neill "
            "Carruthers Featherstone Whitby"
        ),
        (
            ("London", "", "EC2A 4NE"),
            ("Manchester", "", "M1 4BT"),
            ("Edinburgh", "", "EH2 2ER"),
            ("Cardiff", "", "CF10 1EP"),
        ),
        ("{} High Street", "{} King's Road", "Flat 2, {} Station Road", "{} Deansgate"),
        ("+44 7400 ######", "+44 7823 ######"),
        ("+44 20 7P## ####", "+44 (0)161 4## ####", "+44 131 5## ####"),
        ("Ltd", "plc", "& Sons", "Partners"),
    ),
    Place(
        "DE",
        "Germany",
        0.12,
        "de",
        _words(
            "Lukas Anna Leon Lea Finn Marie Jonas Sophie Felix Laura Jürgen|Juergen Käthe|Kaethe Björn|Bjoern Heike Uwe Sabine Götz|Goetz Ilse"
        ),
        _words(
            "Müller|Mueller Schmidt Schneider Fischer Weber Meyer Wagner Becker Schulz Hoffmann Schäfer|Schaefer Koch Bauer Richter "
            "Groß|Gross Böhm|Boehm Köhler|Koehler Strauß|Strauss Weiß|Weiss von-Bülow|von-Buelow"
        ),
        (("Berlin", "", "10117"), ("München", "Bayern", "80331"), ("Hamburg", "", "20095"), ("Köln", "NRW", "50667")),
        ("Hauptstraße {}", "Friedrichstr. {}", "Am Markt {}", "Königsallee {}"),
        ("+49 151 ########", "+49 (0) 176 ########", "+49172#######"),
        ("+49 30 P#######", "+49 89 P#######"),
        ("GmbH", "AG", "KG", "GmbH & Co. KG"),
    ),
    Place(
        "FR",
        "France",
        0.09,
        "fr",
        _words(
            "Gabriel Louise Léo|Leo Jade Raphaël|Raphael Emma Louis Alice Hélène|Helene François|Francois Zoé|Zoe Benoît|Benoit Chloé|Chloe Maël|Mael"
        ),
        _words(
            "Martin Bernard Dubois Thomas Robert Petit Durand Leroy Moreau Lefèvre|Lefevre Garçon|Garcon Besançon|Besancon D'Artois L'Hôpital|L'Hopital"
        ),
        (("Paris", "", "75008"), ("Lyon", "", "69002"), ("Marseille", "", "13001"), ("Saint-Étienne", "", "42000")),
        ("{} rue de Rivoli", "{} avenue de la République", "{} bis, place Bellecour"),
        ("+33 6 1# ## ## ##", "+33 (0)7 5# ## ## ##"),
        ("+33 1 4# ## ## ##", "+33 4 7# ## ## ##"),
        ("SARL", "SA", "SAS", "et Fils"),
    ),
    Place(
        "ES",
        "Spain",
        0.07,
        "es",
        _words(
            "Hugo Lucía|Lucia Martín|Martin Sofía|Sofia Pablo María|Maria Álvaro|Alvaro Begoña|Begona Íñigo|Inigo Carmen Javier Inés|Ines"
        ),
        _words(
            "García|Garcia Fernández|Fernandez López|Lopez Muñoz|Munoz Núñez|Nunez Romero Ibáñez|Ibanez Peña|Pena Ortega Castro Rubio Vázquez|Vazquez"
        ),
        (("Madrid", "", "28013"), ("Barcelona", "", "08002"), ("Sevilla", "", "41001"), ("A Coruña", "", "15001")),
        ("Calle Mayor, {}", "Gran Vía {}", "Avda. de la Constitución {}, 3º B"),
        ("+34 6## ### ###", "+34 6## ######"),
        ("+34 91 P## ## ##", "+34 93 P## ## ##"),
        ("S.L.", "S.A.", "Hermanos"),
    ),
    Place(
        "BR",
        "Brazil",
        0.07,
        "com.br",
        _words(
            "João|Joao Ana Pedro Beatriz Luís|Luis Conceição|Conceicao Antônio|Antonio Mariana Tiago Inês|Ines Caio Letícia|Leticia"
        ),
        _words(
            "Silva Santos Oliveira Souza Lima Araújo|Araujo Gonçalves|Goncalves Assunção|Assuncao Ribeiro Carvalho Magalhães|Magalhaes Rocha"
        ),
        (("São Paulo", "SP", "01310-100"), ("Rio de Janeiro", "RJ", "20040-002"), ("Brasília", "DF", "70040-010")),
        ("Av. Paulista, {}", "Rua da Assembleia, {}", "SQN {} Bloco B"),
        ("+55 11 9####-####", "+55 (21) 9####-####"),
        ("+55 11 3###-####", "+55 61 3###-####"),
        ("Ltda.", "S.A.", "Comércio"),
    ),
    Place(
        "IN",
        "India",
        0.06,
        "in",
        _words("Aarav Ananya Vihaan Diya आदित्य|Aditya प्रिया|Priya Arjun Kavya रोहन|Rohan Meera Sanjay Lakshmi"),
        _words("Sharma Patel Singh Kumar Gupta Iyer Reddy शर्मा|Sharma वर्मा|Varma Nair Mukherjee Das"),
        (("Mumbai", "MH", "400001"), ("Bengaluru", "KA", "560001"), ("New Delhi", "DL", "110001")),
        ("{} MG Road", "Plot {}, Sector 18", "{}/A Nehru Place"),
        ("+91 98### #####", "+91-90########"),
        ("+91 22 2### ####", "+91 80 4### ####"),
        ("Pvt. Ltd.", "Industries", "& Co."),
    ),
    Place(
        "JP",
        "Japan",
        0.05,
        "co.jp",
        _words(
            "太郎|Taro 花子|Hanako 健一|Kenichi 美咲|Misaki 翔太|Shota さくら|Sakura 大輔|Daisuke 陽子|Yoko 拓海|Takumi 葵|Aoi"
        ),
        _words(
            "佐藤|Sato 鈴木|Suzuki 高橋|Takahashi 田中|Tanaka 渡辺|Watanabe 伊藤|Ito 山本|Yamamoto 中村|Nakamura 小林|Kobayashi 髙島|Takashima"
        ),
        (
            ("東京都千代田区", "", "100-0001"),
            ("大阪市北区", "大阪府", "530-0001"),
            ("横浜市西区", "神奈川県", "220-0012"),
        ),
        ("丸の内{}丁目", "梅田{}-2-3", "みなとみらい{}"),
        ("+81 90-P###-####", "+81 80-P###-####"),
        ("+81 3-3###-####", "+81 6-6###-####"),
        ("株式会社", "K.K.", "Holdings"),
    ),
    Place(
        "IL",
        "Israel",
        0.03,
        "co.il",
        _words("נועם|Noam תמר|Tamar דוד|David יעל|Yael איתן|Eitan מיכל|Michal אורי|Uri שירה|Shira"),
        _words(
            "כהן|Cohen לוי|Levi מזרחי|Mizrahi פרץ|Peretz ביטון|Biton אברהם|Avraham פרידמן|Friedman בן-דוד|Ben-David"
        ),
        (("תל אביב", "", "6688101"), ("ירושלים", "", "9103401"), ("חיפה", "", "3303123")),
        ("שדרות רוטשילד {}", "רחוב יפו {}", "הנמל {}"),
        ("+972 50-N##-####", "+972 54-N##-####"),
        ("+972 3-6##-####", "+972 2-5##-####"),
        ('בע"מ', "Ltd."),
    ),
    Place(
        "AE",
        "United Arab Emirates",
        0.02,
        "ae",
        _words("محمد|Mohammed فاطمة|Fatima أحمد|Ahmed عائشة|Aisha علي|Ali مريم|Maryam خالد|Khalid نورة|Noura"),
        _words("المنصوري|Al-Mansoori الهاشمي|Al-Hashimi الشامسي|Al-Shamsi حسن|Hassan إبراهيم|Ibrahim يوسف|Youssef"),
        (("دبي", "", ""), ("أبوظبي", "", ""), ("الشارقة", "", "")),
        ("شارع الشيخ زايد {}", "P.O. Box {}"),
        ("+971 50 N## ####", "+971 55 N## ####"),
        ("+971 4 3## ####", "+971 2 6## ####"),
        ("FZE", "L.L.C."),
    ),
    Place(
        "GR",
        "Greece",
        0.02,
        "gr",
        _words(
            "Γιώργος|Giorgos Μαρία|Maria Δημήτρης|Dimitris Ελένη|Eleni Νίκος|Nikos Κατερίνα|Katerina Σωτήρης|Sotiris Άννα|Anna"
        ),
        _words(
            "Παπαδόπουλος|Papadopoulos Νικολάου|Nikolaou Γεωργίου|Georgiou Οικονόμου|Oikonomou Βασιλείου|Vasileiou Αγγελίδης|Angelidis"
        ),
        (("Αθήνα", "", "105 57"), ("Θεσσαλονίκη", "", "546 24")),
        ("Ερμού {}", "Τσιμισκή {}"),
        ("+30 69# ### ####",),
        ("+30 21 0### ####",),
        ("Α.Ε.", "ΕΠΕ"),
    ),
    Place(
        "UA",
        "Ukraine",
        0.02,
        "com.ua",
        _words(
            "Олександр|Oleksandr Марія|Mariia Дмитро|Dmytro Олена|Olena Андрій|Andrii Ірина|Iryna Тарас|Taras Юлія|Yuliia"
        ),
        _words(
            "Шевченко|Shevchenko Бондаренко|Bondarenko Коваль|Koval Ткаченко|Tkachenko Мельник|Melnyk Кравчук|Kravchuk Щербак|Shcherbak"
        ),
        (("Київ", "", "01001"), ("Львів", "", "79000")),
        ("вул. Хрещатик, {}", "просп. Свободи, {}"),
        ("+380 67 ### ## ##", "+380 50 ### ## ##"),
        ("+380 44 2## ## ##",),
        ("ТОВ", "LLC"),
    ),
)

COMPANY_FIRST = _words(
    "Acme Northwind Blue-River Summit Pioneer Evergreen Silverline Oakfield Bright Granite Harbor Lighthouse Meridian Nova Orion Pinnacle "
    "Quantum Redwood Sterling Titan Union Vertex Westbrook Zenith Cobalt Delta Ember Falcon Horizon Ironwood"
)
COMPANY_SECOND = _words(
    "Logistics Foods Systems Health Energy Textiles Labs Motors Media Finance Analytics Pharma Robotics Design Consulting Software "
    "Construction Insurance Travel Packaging"
)
TITLES = (
    "CEO",
    "CFO",
    "VP, Sales",
    "Head of Procurement",
    "Office Manager",
    "Software Engineer",
    'Director, Marketing & "Brand"',
    "Buyer",
    "Accountant",
    "Consultant",
)
DEPARTMENTS = ("Sales", "Finance", "IT", "Operations", "Marketing", "R&D", "Human Resources", "Legal")
INDUSTRIES = ("Technology", "Manufacturing", "Healthcare", "Retail", "Energy", "Finance", "Transportation", "Education")
NOTES = (
    "Met at the spring fair.",
    "Prefers to be called after 16:00.\r\nSends the signed offer by post.",
    'Said "call me back", twice.',
    "VIP – handle with care; see contract 0012.",
    "Likes short e-mails,\nno attachments.",
)
