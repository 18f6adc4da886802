//! Key exchange groups against known answers, and the public values that must be refused.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may stop at the first surprise")]

mod hex;

use hex::hex;
use watari_crypto::{CryptoError, Provider, RustCryptoProvider};
use watari_policies::algorithm::Group;

/// Private values are big-endian numbers, for Curve25519 the octets of RFC 7748.
struct Vector {
    group: Group,
    private_i: &'static str,
    private_r: &'static str,
    public_i: &'static str,
    public_r: &'static str,
    shared: &'static str,
}

/// RFC 7748 6.1, RFC 8031 A, RFC 5114 A, RFC 5903 8; for MODP the test vectors of strongSwan.
const VECTORS: &[Vector] = &[
    Vector {
        group: Group::Curve25519,
        private_i: "77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a",
        private_r: "5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb",
        public_i: "8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a",
        public_r: "de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f",
        shared: "4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742",
    },
    Vector {
        group: Group::Curve25519,
        private_i: "751fb4308655b476b6789b7325f9ea8cddd16a58533ff6d9e60009464a5f9d94",
        private_r: "0a54645253290d60ddadd0e030bacd9e5501efdc220755a1e978f1b839a05688",
        public_i: "48d5ddd4061257ba166fa3f9bbdb74f1a4e81c089384fa77f790709f0dfbc766",
        public_r: "0be7c1f5aad87d7e448662673298a443478b859745179eaf564c79c0ef6eee25",
        shared: "c74950607a12327f3204d94b6825bfb068b7f8319a9e3708ed3d43ce8130c950",
    },
    Vector {
        group: Group::Ecp256,
        private_i: "814264145f2f56f2e96a8e337a1284993faf432a5abce59e867b7291d507a3af",
        private_r: "2ce1788ec197e096db95a200cc0ab26a19ce6bccad562b8eee1b593761cf7f41",
        public_i: "\
            2af502f3be8952f2c9b5a8d4160d09e97165be50bc42ae4a5e8d3b4ba83aeb15eb0faf4ca986c4d38681a0f9872d79d56795bd4b\
            ff6e6de3c0f5015ece5efd85",
        public_r: "\
            b120de4aa36492795346e8de6c2c8646ae06aaea279fa775b3ab0715f6ce51b09f1b7eece20d7b5ed8ec685fa3f071d837270270\
            92a8411385c34dde5708b2b6",
        shared: "dd0f5396219d1ea393310412d19a08f1f5811e9dc8ec8eea7f80d21c820c2788",
    },
    Vector {
        group: Group::Ecp384,
        private_i: "d27335ea71664af244dd14e9fd1260715dfd8a7965571c48d709ee7a7962a156d706a90cbcb5df2986f05feadb9376f1",
        private_r: "52d1791fdb4b70f89c0f00d456c2f7023b6125262c36a7df1f80231121cce3d39be52e00c194a4132c4a6c768bcd94d2",
        public_i: "\
            793148f1787634d5da4c6d9074417d05e057ab62f82054d10ee6b0403d6279547e6a8ea9d1fd77427d016fe27a8b8c66c6c41294\
            331d23e6f480f4fb4cd40504c947392e94f4c3f06b8f398bb29e42368f7a685923de3b67baced214a1a1d128",
        public_r: "\
            5cd42ab9c41b5347f74b8d4efb708b3d5b36db65915359b44abc17647b6b9999789d72a84865ae2f223f12b5a1abc120e171458f\
            eaa939aaa3a8bfac46b404bd8f6d5b348c0fa4d80ceca16356ca933240bde8723415a8ece035b0edf36755de",
        shared: "5ea1fc4af7256d2055981b110575e0a8cae53160137d904c59d926eb1b8456e427aa8a4540884c37de159a58028abc0e",
    },
    Vector {
        group: Group::Modp2048,
        private_i: "af3bfd3862caa11774ce2b74840807c1de5cd6a7619bb3a0c7af39eedaa6eb89e2e9c144b3625b2731879cb58fa3766d",
        private_r: "77a48e4772e23e284ce4af81399dcd589beb7cefbcc9d196f06dcfdfc3a88e3b4c1c82befec0e64ba495ccde329936ce",
        public_i: "\
            1a27c5a7237ae8fe0a71c0af6494faeccdd4a5031d47a1a6b7162dfcdf03bb17b7bb089bd652a5f31b3661bb114d7c48d83d244f\
            46db64870c9c8327f1a830abf531e518dd521a2e94e7061e944209ba5331012b3dff00849eaab58c7c7af15265210fbcf0f87b9d\
            d932f8ba4e9a9f91b63294530a1200b88b3a03e1a0c7fd34deec6fad501ede06ce7ec9e291d47b69b3a4b61bb08763b6d46bfbda\
            b97bdecea0ff09a872221fb4b6ccca6b5c6faad8eb873b9a2f39b63e62cfadd47607e68e2c290583f7268fb43fc00a7dc8810ecd\
            ac1a59bd1b477aaf41cb4b24ada3e5f7b8cb986f1ae476afc7677aa62570a1b1838dda26be7863ee2f40b5e538a4e181",
        public_r: "\
            667282318d65cb05cd323c25091e664cc75a3a20c014b2f6389d3b27f5c1e908e0d40ff8552bd587752550302285b49f75f8ffae\
            c937fb2e69c8150f88d6508bf0fb1f16e9676f5ecf718f874f3d8de3c8688749dbcf1affd4d62ff9ea5d9e3035b2ce4a6eae281c\
            408fc8084ae235d998a037610a8cb48c878cd0635fa1369fc90b864c532367384597fdeefdb6742b006adedae2015bc4ce2f9c54\
            51c9636a16ed7d10b4e40d825b50aa7633a0e8fb813bebc049f7ff6a71ecfb14e880f509d38b571a809808a496b451b5b5567a36\
            08b01a22e4998355f181b879de262304f29de142ff5e52cc564f3a2d1e84a0c33d8f3da7bf6412b3f018e00d90fa5b94",
        shared: "\
            26f9e8457cf2d7d56dd819c2a867d7c3a90aa2b944e20b8bded3a5bf91aa1ff81a7ea89d524c365f3823510835cd8644c4d5dacf\
            893e610d2c1a140616d1c8c1d35f46de2c5faad9aecec6b677acd984098142a8aa0c8542e9ac98b3bc7b577c59b8ec53346e1567\
            a90039ac92b224635ab216731b06353925642c330a201ba4b31284a9515860f35e9308f5515a779984fbd9f5ce4177db78d1cb03\
            84b63c739c6d744ad7a700b95a531b29f3b744ed38e69aee67072c45a91cee6b14215e04f27c31358c86dce448d60a223bdc554e\
            daa3e4072ef603a0f4619f8db39cec291c860174155d8abf9e1082931df58ed9ee9c1215dd2393de02f5c1767f070e28",
    },
    Vector {
        group: Group::Modp3072,
        private_i: "51f8aab663201eb286bad29932b2e58a9296bf2aa77879cc8c6429d5a668adf76057adc377cc75fd864796b8fa7b428c",
        private_r: "af7f44290baac8815e70759b6b274227122250ea8d5a12ef4b0a82cfe91d52989d96c1a840892a9ffa9f3a65c77c8cd9",
        public_i: "\
            ae9827a07a372e160167206372c55b615cd49e8c43f71a6e6b22838c0f9b9d903ae59797f395c9ca7c780fa88d7927a3ac48f1b5\
            05e67a0db1ebad578eb1572b86525e840c4ce2435ed4cde17568a2cb270885c9d3a724f87346e519a94784ee88afec2786689f0b\
            c123e0e4657957b4f75f24b52dd48039093ae8eb5da40d1e31fc53fd98a058b0389bd5c7af5b0df449d613901ca271b58e470f88\
            d345931f3f64e81f031de95adaef78f60e645eca7dd5618aa6edd39fa891224639a9ae42a8a9374d683fd3f4826b974c8d00392f\
            311245a71c86db4eb5efc47834ce6bafb208aabac68c35e34f791578401c7b750115b16e5c3ac36242f4a90a99734c08368d48ab\
            5d50ec92f3f1267e54b93334a50b00d7571d1ceb1e662158d5663620d1f0228a64f492ea8e1fe1817e3583577f1e48a58491c10d\
            98ffa0eaa86405d02c94b49f99fddc6a3b7bd6e3bce2261ea3cbbd821f495a2aa71ae909b3cd0d2c9bec0b068ba72620ff06324c\
            db800bf8565e4b782184610ef077bc4e8fc517f7",
        public_r: "\
            2b270c8e6674093145ef84ab0c34560f5c4f9482a50f2f4472fde987b46eb840340203d631102f2c7f9eb48d207444fb21717daf\
            76f66004a79ea8eee77cc98019ba1234f16fbff7dda945a446811d285d31afd331dfa80c870efb199668bb387618e11621f53292\
            908fd329aadb91635e475f33004d9effca65e73fdfe558f34ba9eef3cf961dab565c5a722afb228c26bf38d39c84f7ca70f851bf\
            218a7e2c2db5d356937a015a65503113f6c0d52d3b2a2121a0ca42c6ccdebb0b2cfc68aa662f3e08dd6982427a0a11b2e144e0f1\
            a347d1d27ff896ee56f5d9fb25f740b5c70988fcdc9112dfcea2de117c1287d32da8427049ceef097bf45781846a021d383e731a\
            a6e5c3dc0a46226e54c5a6367ad8900b8eadba54093ec6f71c29744adc7302e81185ed80db14b3e43f29361af4e61c331e5d774d\
            7617bf3155713b0d4f9038976f2ff85199c1d70dcb3efa2b63e0c77cee789fa0058fdf5267c6b1bdedc1d1ef47ca08222a9a27e6\
            5f892eefde0612f46b51be1a14774d4514d7e7ca",
        shared: "\
            453caf89d6bff39bdae185461761d6def589a582669c1ac86b0b7ee46956c9f94d7477ddd81cde127576daebd3529515f06aa7df\
            5eb13127675ce1b4dca2acb647e35576b94050bcc385b3b48944dd1ecabe6c767045cdcddd3a1d65838cccb082f544f0fd9be6c3\
            d4ffe755e4d56dfbb42093523f45d2415eadf36a185c87a6e01427bbcc989568a29366b1c691724d810e99fb0583002672a53e49\
            9ff2304a4bcc10a3b80bf48a9e315be998bf170ce90ec4eb8705570e5ec480c21c4dd0a53a1cb206a342452ea8a684d569d810f8\
            e98fead7039c64efef593524f5075cb87e7563a42ad1b57819c7b019963d070b4cefe22c596b3a96a8ba41bdabe054a9a9b4d1c4\
            278a8364ead996a039e8bddc00601ecf102d20d6abced2ff192949f5f81c36fb47964439cd44036a23ac30868ca52325847b3100\
            d3d4281676bf9484a00566f13b6ae89c57b7732f8e60434e8e4885cb1bf947ced14d3153e1b6c81b33120ffbd8459491d2c578aa\
            b0a97e83dc87875be588c0cdeeeefd19cc4f1d40",
    },
    Vector {
        group: Group::Modp4096,
        private_i: "\
            ab69bce961f98aa9d591e3fd9abc46c80dde390284f19142e8815ab08054722bbd2e141e279ec7fd30aafaca664093731ecc75a2\
            bd07e4a5883f560893c83350",
        private_r: "\
            ef3ecb88f4f988f72acd5aa22ebebf190fde7e8e4d0d50ccde80f941b3bbd6a2f9a12aee9bb3e5c5803f67affe27c80d05469b52\
            54eb1f326c18731fd34ac2cd",
        public_i: "\
            3ec63c0c683205c39d4b977239fe7f9617560b1a56c47fd907026ad8090aa44bcc29d3c2b38d34e15c9e14c80581a5c4832f5cd8\
            8e4373bf590ead636f68c89959dfebc4330348974ec4807ca44fb7d44f02b797709e160e3c0ec4061f759aec63d996d2377a18dc\
            c594c208fa837aebc1689d5c0ab4305c1bbe86b1d4a16f4cb525fcccf1006e2123c776b1ffd1fea2977b1eac82d1eeec4c4673a5\
            17dbc42e0f8930db28d8c8e8b40f8a498da583055c9c123534cc2c5334d0bebea3762678d1f534ba646f7522f26857a0ff288f7e\
            fc38c1dfa0a64c3eb53164c18f6c2a4e515c13c1b73935d9bdb458273355342967a854c78b168b5890f7fe08d08c2e4a6f166332\
            2e7b52ef0217c81513722f34c0954802e42cfb6c9ee9d2c39868711f1afc4e4778522d9c45090b2623f4afa388426b8975640593\
            be792bb8a715bef2c46c2c50a68aa630138ab26df9dae2b0e2c4ebc10a8636dad9be2ffb7919cd527885843cb76c71f28e71f6f8\
            23d99c2fe31ad7fbcc9abb24ef2666a121ccf21f881fa66ab718baf92bef5cecaacf4c929c9cb54424d17ab7738ca6807b4efa49\
            360a3db6527c724c4531629e9db1845c6a1eb4632e0c07ab6c31377c808370494644a35bd4785f495f60638b988171dece5d5c44\
            90357d0289b3944bc9f7854db80697d5f63bf3e31db44efb9a43e1dc9d17ee47012dfbacfdaf4debfef08b5c",
        public_r: "\
            20b7b45f69e2c30bccf841cae8042c36353725420599335fa2e87bbe59cebbc7a7d3f61eb66982503a7576c34763dfef6a6b180a\
            93af66e4f72f12d58c93846d160558b0d316039f6ba99ea64f005ba11e59f3a9cb993d28271a4fb830c3f6c4ceb9b0162ccca197\
            ff6515789d436c947eb5d8010974ebcd366bc4768341090a6fb55ca84e31d2489e3527a260776f9b8a58577bdcd689d8e4b72514\
            cf15eea5a49629a2f2c486c51b5d14d49b119309bfe9c932b604c6f1c0e92c448dc19f54f421112f2887238c9137c559b69a93ac\
            f36cc1f0bdfe4cca0b604771ee2af17c34045d4229b2b80acdfb7f56e4eaee81ed6c885a2e45afc98de1212e5f714f5f008812d7\
            1706896d2d5ed8590cee66410879dc3195a921efe085db41d687ec2de906a810336fa7570d43112decf9ffa4ae50f54fad3eec2b\
            b3ed86dda3662bc0fc1c2894d4de7da9260f7473be676dbf609033320dbaa491720ce2d35d078dbdde845b4a495ad2ecc2e6da5f\
            1c0c8920e4ea0ecca0e077dac59b97f0e94b6ccad3f42a34b6634ede83b29d9c7615f74190df33b20e7d6908d663698adb8a2dac\
            d979f1ca13f2cc8402f8f6cbf91192f111ddf5ad2939059554ac47b478747b78a2719297aeda20e3d85338269b3080fc3fd78de4\
            acf34e09477a61cac7c1b7dc7694ed141a51480e6b2b43c02556e8a8497c4fca56f7fd56c8eb36a1f8c3d124",
        shared: "\
            23b06f4939609b0f6708852d4f87b356988fb45b1e4c951b0b1d59bba8ca8b60c255a18f3755a6db05e4285fe8f1f9d26add2414\
            19f0fca98237fd7a5e526d57ab5ad069c3f189f3c291501144a65514a566b74d0dc6419c1306cfbff35dbeb43abd5ed39ce13753\
            b28ae5e105f7191bc6d70ac3552c82373c6bd9db8ed5ee1546fdb5499ae70a6bcbd1859a31ec43dccf05525ee40c949887dd8168\
            ae29cc537a6f57a526f425dd075f39d6ee71cb497a571fe57958c7de321d64f4e4892243e78fef47b331a676844989191f97adf7\
            9132607a148f193c7dd5e6d599257e1bf121932468dbbe2160c97af03f9d1b19b16b4f8fec5dcbc798344a87dbd402a6266e10c0\
            e8a722fe9f67e8636cb0a73e224d5323de9b7fa7c66c62a1f40042041cbadef24b4faafda91479ec919764b0f48b959e6799f094\
            966d246127c00e9cc7d8f5a843d1a4d61c5c0a64b6b16ca732449375d9cf5d32d399f656fd514fbfe66eea82e479fc73180b721d\
            d4c5bb20d450c5a1959e1f8fed9dd28c97051272f66400cdd413457ddde69ac7435ee4a4f72a37024982b4a7f6f55e03070382b8\
            3b2cedb7752517f048b7c691d1f1d7b852a5b7cd3b2bde97620e9b2cd9c77fd8ccb6925adef706a6770a2efb621c93f1ca24f09a\
            686e8b8605814947399215339a1f29fb57acf9ce9eba2cbd4969c89e4fb9390212b9b2a35d4afa17b3eec08a",
    },
    Vector {
        group: Group::Ecp256,
        private_i: "c88f01f510d9ac3f70a292daa2316de544e9aab8afe84049c62a9c57862d1433",
        private_r: "c6ef9c5d78ae012a011164acb397ce2088685d8f06bf9be0b283ab46476bee53",
        public_i: "\
            dad0b65394221cf9b051e1feca5787d098dfe637fc90b9ef945d0c37725811805271a0461cdb8252d61f1c456fa3e59ab1f45b33\
            accf5f58389e0577b8990bb3",
        public_r: "\
            d12dfb5289c8d4f81208b70270398c342296970a0bccb74c736fc7554494bf6356fbf3ca366cc23e8157854c13c58d6aac23f046\
            ada30f8353e74f33039872ab",
        shared: "d6840f6b42f6edafd13116e0e12565202fef8e9ece7dce03812464d04b9442de",
    },
    Vector {
        group: Group::Ecp384,
        private_i: "099f3c7034d4a2c699884d73a375a67f7624ef7c6b3c0f160647b67414dce655e35b538041e649ee3faef896783ab194",
        private_r: "41cb0779b4bdb85d47846725fbec3c9430fab46cc8dc5060855cc9bda0aa2942e0308312916b8ed2960e4bd55a7448fc",
        public_i: "\
            667842d7d180ac2cde6f74f37551f55755c7645c20ef73e31634fe72b4c55ee6de3ac808acb4bdb4c88732aee95f41aa9482ed1f\
            c0eeb9cafc4984625ccfc23f65032149e0e144ada024181535a0f38eeb9fcff3c2c947dae69b4c634573a81c",
        public_r: "\
            e558dbef53eecde3d3fccfc1aea08a89a987475d12fd950d83cfa41732bc509d0d1ac43a0336def96fda41d0774a3571dcfbec7a\
            acf3196472169e838430367f66eebe3c6e70c416dd5f0c68759dd1fff83fa40142209dff5eaad96db9e6386c",
        shared: "11187331c279962d93d604243fd592cb9d0a926f422e47187521287e7156c5c4d603135569b9e9d09cf5d4a270f59746",
    },
];

/// The seed that gives this private value: numbers fill the octets that the group looks at from the right.
fn seed(group: Group, private: &str) -> [u8; 64] {
    let looked_at = match group {
        Group::Modp2048 => 48,
        Group::Modp3072 => 56,
        Group::Curve25519 => 32,
        Group::Modp4096 | Group::Ecp256 | Group::Ecp384 => 64,
    };
    let value = hex(private);
    let mut seed = [0; 64];
    seed[looked_at - value.len()..looked_at].copy_from_slice(&value);
    seed
}

#[test]
fn known_answers() {
    for vector in VECTORS {
        let group = RustCryptoProvider.need_group(vector.group).unwrap();
        let (private_i, public_i) = group.generate(&seed(vector.group, vector.private_i)).unwrap();
        let (private_r, public_r) = group.generate(&seed(vector.group, vector.private_r)).unwrap();
        assert_eq!(public_i, hex(vector.public_i), "{}", vector.group);
        assert_eq!(public_r, hex(vector.public_r), "{}", vector.group);
        assert_eq!(group.agree(&private_i, &public_r).unwrap().expose(), hex(vector.shared), "{}", vector.group);
        assert_eq!(group.agree(&private_r, &public_i).unwrap().expose(), hex(vector.shared), "{}", vector.group);
    }
    for group in Group::ALL {
        assert!(VECTORS.iter().any(|vector| vector.group == *group), "no known answer for {group}");
    }
}

/// 64 octets without any pattern that a group could trip over.
fn some_seed(number: u8) -> [u8; 64] {
    std::array::from_fn(|at| (at as u8).wrapping_mul(37).wrapping_add(number.wrapping_mul(101)).wrapping_add(0x83))
}

#[test]
fn both_ends_agree_and_lengths_are_those_of_the_rfcs() {
    for id in Group::ALL {
        let group = RustCryptoProvider.need_group(*id).unwrap();
        let (private_i, public_i) = group.generate(&some_seed(1)).unwrap();
        let (private_r, public_r) = group.generate(&some_seed(2)).unwrap();
        let shared = group.agree(&private_i, &public_r).unwrap();
        assert_eq!(shared, group.agree(&private_r, &public_i).unwrap(), "{id}");
        assert_eq!((public_i.len(), shared.len()), (id.public_len(), id.shared_len()), "{id}");
        assert_ne!(public_i, public_r, "{id}");
        assert_eq!(group.generate(&some_seed(1)).unwrap().1, public_i, "{id}: the same seed gives the same pair");
    }
}

fn refused(id: Group, peer_public: &[u8]) -> bool {
    let group = RustCryptoProvider.need_group(id).unwrap();
    let (private, _) = group.generate(&some_seed(3)).unwrap();
    matches!(group.agree(&private, peer_public), Err(CryptoError::PublicValue { .. }))
}

#[test]
fn public_values_of_another_length_are_refused() {
    for id in Group::ALL {
        let group = RustCryptoProvider.need_group(*id).unwrap();
        let (_, good) = group.generate(&some_seed(4)).unwrap();
        assert!(!refused(*id, &good), "{id}");
        assert!(refused(*id, &[]), "{id}");
        assert!(refused(*id, &good[1..]), "{id}");
        assert!(refused(*id, &[&good[..], &[0]].concat()), "{id}");
        assert!(refused(*id, &[&[0], &good[..]].concat()), "{id}");
        assert!(refused(*id, &vec![0; id.public_len()]), "{id}");
        if *id != Group::Curve25519 {
            assert!(refused(*id, &vec![0xff; id.public_len()]), "{id}");
        }
    }
}

#[test]
fn ecp_accepts_only_points_of_the_curve() {
    for id in [Group::Ecp256, Group::Ecp384] {
        let group = RustCryptoProvider.need_group(id).unwrap();
        let (_, good) = group.generate(&some_seed(5)).unwrap();
        for octet in [0, id.public_len() / 2 - 1, id.public_len() / 2, id.public_len() - 1] {
            let mut off = good.clone();
            off[octet] ^= 1;
            assert!(refused(id, &off), "{id} {octet}");
        }
    }
}

#[test]
fn x25519_refuses_points_of_small_order() {
    // 0, 1, p-1, p, p+1 and the two points of order 8, as every list of them has it (RFC 7748 5 with the field prime 2^255-19).
    for point in [
        "0000000000000000000000000000000000000000000000000000000000000000",
        "0100000000000000000000000000000000000000000000000000000000000000",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
        "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
    ] {
        assert!(refused(Group::Curve25519, &hex(point)), "{point}");
    }
}

#[test]
fn x25519_masks_the_top_bit_and_takes_non_canonical_values() {
    let group = RustCryptoProvider.need_group(Group::Curve25519).unwrap();
    let (private, _) = group.generate(&some_seed(6)).unwrap();
    let (_, public) = group.generate(&some_seed(7)).unwrap();
    let mut masked = public.clone();
    masked[31] ^= 0x80;
    assert_eq!(group.agree(&private, &public).unwrap(), group.agree(&private, &masked).unwrap());
    // 9 + p is another form of 9 (RFC 8031 3.2).
    let nine = [&[9][..], &[0; 31]].concat();
    let non_canonical = hex("f6ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f");
    assert_eq!(group.agree(&private, &nine).unwrap(), group.agree(&private, &non_canonical).unwrap());
}

#[test]
fn a_seed_of_zeros_is_a_broken_random_source() {
    for id in Group::ALL {
        let group = RustCryptoProvider.need_group(*id).unwrap();
        assert!(matches!(group.generate(&[0; 64]), Err(CryptoError::Seed(_))), "{id}");
    }
}

#[test]
fn a_private_value_works_with_its_own_group_only() {
    let (private, _) = RustCryptoProvider.need_group(Group::Ecp256).unwrap().generate(&some_seed(8)).unwrap();
    assert_eq!(private.group(), Group::Ecp256);
    for id in Group::ALL.iter().filter(|id| **id != Group::Ecp256) {
        let group = RustCryptoProvider.need_group(*id).unwrap();
        let (_, public) = group.generate(&some_seed(9)).unwrap();
        assert!(matches!(group.agree(&private, &public), Err(CryptoError::WrongGroup { .. })), "{id}");
    }
    assert!(format!("{private:?}").contains("Secret(32 bytes)"));
}
